#include "kernelforge/eval/Comparison.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

using namespace kernelforge;

const char *kernelforge::verdictName(Verdict verdict) {
  switch (verdict) {
  case Verdict::Improved:
    return "improved";
  case Verdict::Same:
    return "same";
  case Verdict::Regressed:
    return "regressed";
  case Verdict::Inconclusive:
    break;
  }
  return "inconclusive";
}

Verdict kernelforge::judge(const Interval &interval, double pAdjusted, double threshold,
                           double alpha) {
  const double slower = 1 + threshold, faster = 1 / slower;
  if (interval.low > slower && pAdjusted < alpha)
    return Verdict::Regressed;
  if (interval.high < faster && pAdjusted < alpha)
    return Verdict::Improved;
  if (interval.low >= faster && interval.high <= slower)
    return Verdict::Same;
  return Verdict::Inconclusive;
}

std::string kernelforge::reasonFor(Verdict verdict, const Interval &interval, double pAdjusted,
                                   double threshold) {
  const double slower = 1 + threshold, faster = 1 / slower;
  switch (verdict) {
  case Verdict::Regressed:
    return fmt::format("all of the interval is above {:.3f}", slower);
  case Verdict::Improved:
    return fmt::format("all of the interval is below {:.3f}", faster);
  case Verdict::Same:
    return fmt::format("the interval is within {:.3f} and {:.3f}", faster, slower);
  case Verdict::Inconclusive:
    break;
  }
  if (interval.low > slower || interval.high < faster)
    return fmt::format("the interval is beyond the threshold, but chance does as much (p {:.2g})",
                       pAdjusted);
  return fmt::format("the interval holds {:.3f}", interval.high > slower ? slower : faster);
}

std::optional<FidelityChange> kernelforge::fidelityChange(const ReportRow &a, const ReportRow &b) {
  if (a.status != b.status) {
    const std::string why = b.error.empty() ? "" : ": " + b.error;
    return FidelityChange{a.name, fmt::format("was {}, is {}{}", a.status, b.status, why), a.ok()};
  }
  if (!a.accuracy || !b.accuracy)
    return std::nullopt;
  const double before = a.accuracy->l2Rel, now = b.accuracy->l2Rel;
  const std::string error = fmt::format("l2_rel was {:.2g}, is {:.2g}", before, now);
  if (a.accuracy->pass != b.accuracy->pass)
    return FidelityChange{
        a.name,
        fmt::format("{}; {}",
                    a.accuracy->pass ? "accuracy passed and fails" : "accuracy failed and passes",
                    error),
        a.accuracy->pass};
  if (now > 2 * before && now > 0x1p-20)
    return FidelityChange{a.name, error, false};
  return std::nullopt;
}

RowComparison kernelforge::failedRow(const ReportRow &a, const ReportRow &b) {
  auto what = [](const ReportRow &row) {
    return row.error.empty() ? row.status : row.status + ": " + row.error;
  };
  RowComparison row;
  row.name = a.name;
  row.why = what(a) == what(b) ? fmt::format("both are {}", what(a))
                               : fmt::format("A is {}, B is {}", what(a), what(b));
  return row;
}

std::optional<double> kernelforge::measuredRatio(const RowComparison &row) {
  if (!row.aMedianNs || !row.bMedianNs)
    return std::nullopt;
  return *row.bMedianNs / *row.aMedianNs;
}

bool kernelforge::isCorrected(const Comparison &comparison) {
  return std::ranges::any_of(comparison.rows,
                             [](const RowComparison &row) { return row.exponents.has_value(); });
}

void kernelforge::conclude(Comparison &comparison) {
  auto have = [&](Verdict verdict) {
    return std::ranges::count(comparison.rows, verdict, &RowComparison::verdict);
  };
  double sum = 0, measured = 0;
  int judged = 0;
  for (const RowComparison &row : comparison.rows)
    if (row.ratio && row.pAdjusted) {
      sum += std::log(*row.ratio);
      measured += std::log(measuredRatio(row).value_or(*row.ratio));
      ++judged;
    }
  if (judged > 0) {
    comparison.geomeanRatio = std::exp(sum / judged);
    if (isCorrected(comparison))
      comparison.geomeanMeasured = std::exp(measured / judged);
  }
  const auto rows = static_cast<ptrdiff_t>(comparison.rows.size());
  if (have(Verdict::Regressed) > 0 ||
      std::ranges::any_of(comparison.fidelityChanged, &FidelityChange::broken))
    comparison.verdict = Verdict::Regressed;
  else if (have(Verdict::Improved) > 0)
    comparison.verdict = Verdict::Improved;
  else if (rows == 0 || 2 * have(Verdict::Inconclusive) > rows)
    comparison.verdict = Verdict::Inconclusive;
  else
    comparison.verdict = Verdict::Same;
}

static Json rowJson(const RowComparison &row) {
  Json json = {
      {"name", row.name},
      {"a_median_ns", orNull(row.aMedianNs)},
      {"b_median_ns", orNull(row.bMedianNs)},
      {"ratio", orNull(row.ratio)},
      {"corrected", row.exponents.has_value()},
      {"measured_ratio", orNull(measuredRatio(row))},
      {"ci95", row.interval ? Json::array({row.interval->low, row.interval->high}) : Json()},
      {"p_value", orNull(row.p)},
      {"p_adjusted", orNull(row.pAdjusted)},
      {"samples", row.samples},
      {"samples_needed", orNull(row.samplesNeeded)},
      {"verdict", verdictName(row.verdict)},
      {"why", row.why}};
  if (row.exponents)
    json["machine_exponents"] = {{"anchor", row.exponents->anchor},
                                 {"write_first", row.exponents->writeFirst},
                                 {"write_slowest", row.exponents->writeSlowest}};
  return json;
}

Json kernelforge::toJson(const Comparison &comparison) {
  Json json = {{"kind", comparison.kind},
               {"a", comparison.a},
               {"b", comparison.b},
               {"threshold", comparison.threshold},
               {"alpha", comparison.alpha},
               {"rows", Json::array()},
               {"geomean_ratio", orNull(comparison.geomeanRatio)},
               {"verdict", verdictName(comparison.verdict)},
               {"fidelity_changed", Json::array()},
               {"only_a", comparison.onlyA},
               {"only_b", comparison.onlyB}};
  for (const RowComparison &row : comparison.rows)
    json["rows"].push_back(rowJson(row));
  for (const FidelityChange &change : comparison.fidelityChanged)
    json["fidelity_changed"].push_back(
        {{"name", change.name}, {"what", change.what}, {"broken", change.broken}});
  if (comparison.geomeanMeasured)
    json["geomean_measured_ratio"] = *comparison.geomeanMeasured;
  if (!comparison.differences.empty())
    json["differences"] = comparison.differences;
  return json;
}
