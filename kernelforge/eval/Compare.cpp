#include "kernelforge/eval/Compare.h"

#include "kernelforge/eval/LikeMachines.h"
#include "kernelforge/measure/Timing.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <iterator>
#include <map>

using namespace kernelforge;

static constexpr double mostAnchorChange = 1.1;
static constexpr double mostMemoryChange = 0.05;

/// What has to be alike, one line for each that is not.
static std::vector<std::string> differencesOf(const Report &a, const Report &b) {
  std::vector<std::string> differences;
  auto check = [&](const char *field, const auto &left, const auto &right) {
    if (left != right)
      differences.push_back(fmt::format("{} is {} and {}", field, left, right));
  };
  check("host.cpu", a.cpu, b.cpu);
  check("host.cores_used", a.cores, b.cores);
  const auto memoryA = static_cast<double>(a.memoryBytes);
  const auto memoryB = static_cast<double>(b.memoryBytes);
  if (std::abs(memoryA - memoryB) > mostMemoryChange * std::max(memoryA, memoryB))
    check("host.memory_bytes", a.memoryBytes, b.memoryBytes);
  check("suite", a.suite, b.suite);
  check("settings.suite_hash", a.suiteHash, b.suiteHash);
  check("settings.threads", a.threads, b.threads);
  check("settings.mode", a.mode, b.mode);
  check("settings.affinity", a.affinity, b.affinity);
  check("settings.batch_s", a.batchSeconds, b.batchSeconds);
  check("settings.timed", a.timed, b.timed);
  check("settings.records", a.records, b.records);
  check("device.target", a.target, b.target);
  check("device.cpu", a.targetCpu, b.targetCpu);
  check("device.features", a.features, b.features);
  if (!a.deviceName.empty() && !b.deviceName.empty()) { // reports of before do not say
    check("device.name", a.deviceName, b.deviceName);
    check("device.driver", a.driver, b.driver);
  }
  return differences;
}

static Json sideJson(const Report &report) {
  return {{"run_id", report.runId}, {"created", report.created}, {"git_commit", report.gitCommit}};
}

/// Why a row cannot be judged; empty where it can.
static std::string obstacle(const ReportRow &a, const ReportRow &b, size_t least) {
  if (!a.trusted || !b.trusted)
    return a.trusted   ? "B is not trusted"
           : b.trusted ? "A is not trusted"
                       : "neither side is trusted";
  if (a.anchor != b.anchor)
    return fmt::format("other anchors judge it: {} and {}", a.anchor, b.anchor);
  const double before = median(a.anchorSamples), now = median(b.anchorSamples);
  if (std::max(before, now) > mostAnchorChange * std::min(before, now))
    return fmt::format("the machine's {} differs by more than 10 %: {:.4g} and {:.4g}", a.anchor,
                       before, now);
  const size_t samples = std::min(a.samples.size(), b.samples.size());
  if (samples < least)
    return fmt::format("it has {} samples, {} are needed", samples, least);
  return "";
}

namespace {

/// A row on its way to a verdict.
struct Judged {
  size_t row;       ///< of the comparison
  Interval drawn;   ///< of the ratio, by the samples of the two runs
  double deviation; ///< of the ratio's logarithm, that no number of samples lessens
};

} // namespace

/// What the time of a short call owes to the process that it runs in (where its memory and code
/// lie, and more: it is there without random addresses and with huge pages, too), as a deviation of
/// the ratio's logarithm. Over 60 runs of one program the medians of kernels of 4 to 9 us deviated
/// by 1 to 3 %, those of one of 0.13 us mostly by 0.7 % and in one run of twenty by 10 to 15 %;
/// longer ones by 0.2 to 0.8 %.
static double placementDeviation(const LikeSamples &like) {
  constexpr double shortCall = 10e3, share = 0.03, fixed = 4; // ns, of the time, ns
  const double time = std::min(median(like.a), median(like.b));
  return time < shortCall ? share + fixed / time : 0;
}

/// `like`: its samples, where both sides have some.
static RowComparison startRow(const ReportRow &a, const ReportRow &b,
                              const std::optional<LikeSamples> &like) {
  RowComparison row;
  row.name = a.name;
  if (!a.samples.empty())
    row.aMedianNs = a.medianNs;
  if (!b.samples.empty())
    row.bMedianNs = b.medianNs;
  row.samples = std::min(a.samples.size(), b.samples.size());
  if (like) {
    row.samples = std::min(like->a.size(), like->b.size());
    row.exponents = like->exponents;
    row.ratio = median(like->b) / median(like->a);
  }
  return row;
}

/// Test and interval of each row that can be judged, verdicts from all of them together.
static void judgeRows(Comparison &comparison,
                      const std::vector<std::pair<const ReportRow *, const ReportRow *>> &pairs) {
  const size_t least = minimumSamples(comparison.alpha, pairs.size());
  std::vector<Judged> judged;
  std::vector<double> p;
  for (const auto &[a, b] : pairs) {
    std::optional<LikeSamples> like;
    if (!a->samples.empty() && !b->samples.empty() && a->anchor == b->anchor)
      like = onLikeMachines(*a, *b);
    RowComparison row = startRow(*a, *b, like);
    row.why = obstacle(*a, *b, least);
    if (row.why.empty()) {
      row.p = mannWhitneyU(like->a, like->b).p;
      const Interval drawn = medianRatioInterval(like->a, like->b);
      p.push_back(*row.p);
      judged.push_back(
          {comparison.rows.size(), drawn, std::hypot(like->deviation, placementDeviation(*like))});
    } else if (row.samples < least) {
      row.samplesNeeded = least;
    }
    comparison.rows.push_back(std::move(row));
  }
  const std::vector<double> adjusted = holmAdjusted(p);
  for (size_t i = 0; i < judged.size(); ++i) {
    RowComparison &row = comparison.rows[judged[i].row];
    row.pAdjusted = adjusted[i];
    row.interval = widened(judged[i].drawn, *row.ratio, judged[i].deviation);
    row.verdict = judge(*row.interval, adjusted[i], comparison.threshold, comparison.alpha);
    row.why = reasonFor(row.verdict, *row.interval, adjusted[i], comparison.threshold);
    if (row.verdict == Verdict::Inconclusive)
      row.samplesNeeded = samplesNeeded(judged[i].drawn, *row.ratio, row.samples,
                                        comparison.threshold, judged[i].deviation);
  }
}

Status kernelforge::checkComparable(const Report &a, const Report &b, bool force) {
  const std::string where = a.where + ", " + b.where;
  const std::vector<std::string> differences = differencesOf(a, b);
  if (!differences.empty() && !force)
    return unusable("reports cannot be compared", where,
                    fmt::format("{}", fmt::join(differences, "; ")),
                    "measure both alike, or compare them all the same with --force");
  const bool inBoth = std::ranges::any_of(a.rows, [&](const ReportRow &row) {
    return std::ranges::find(b.rows, row.name, &ReportRow::name) != b.rows.end();
  });
  if (!inBoth)
    return unusable("reports cannot be compared", where, "no row is in both",
                    "measure the same rows of the suite");
  return {};
}

Expected<Comparison> kernelforge::compareReports(const Report &a, const Report &b,
                                                 const CompareOptions &options) {
  Comparison comparison;
  comparison.kind = "stored";
  comparison.a = sideJson(a);
  comparison.b = sideJson(b);
  comparison.threshold = options.threshold;
  comparison.alpha = options.alpha;
  comparison.differences = differencesOf(a, b);
  KF_CHECK(checkComparable(a, b, options.force));
  std::map<std::string_view, const ReportRow *> ofB;
  for (const ReportRow &row : b.rows)
    ofB[row.name] = &row;
  std::vector<std::pair<const ReportRow *, const ReportRow *>> pairs;
  std::vector<RowComparison> failed;
  for (const ReportRow &row : a.rows) {
    auto found = ofB.extract(row.name);
    if (found.empty()) {
      comparison.onlyA.push_back(row.name);
      continue;
    }
    const ReportRow &other = *found.mapped();
    if (std::optional<FidelityChange> change = fidelityChange(row, other))
      comparison.fidelityChanged.push_back(std::move(*change));
    if (row.ok() && other.ok())
      pairs.emplace_back(&row, &other);
    else
      failed.push_back(failedRow(row, other));
  }
  for (const ReportRow &row : b.rows)
    if (ofB.contains(row.name))
      comparison.onlyB.push_back(row.name);
  judgeRows(comparison, pairs);
  std::ranges::move(failed, std::back_inserter(comparison.rows));
  conclude(comparison);
  return comparison;
}
