#include "MatmulRows.h"

#include "kernelforge/compiler/RecordKeys.h"
#include "kernelforge/eval/Suite.h"
#include "kernelforge/measure/AccuracyJson.h"
#include "kernelforge/records/Choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

using namespace kernelforge;
using namespace kernelforge::cli;

//===----------------------------------------------------------------------===//
// Figures
//===----------------------------------------------------------------------===//

KernelCeilings MatmulConditions::ceilings() const {
  return {std::max(before->fma, after->fma), std::max(before->read, after->read),
          before->arithmetic};
}

bool MatmulConditions::trusted() const {
  auto same = [](double a, double b) { return std::abs(a - b) <= 0.1 * std::max(a, b); };
  return whyNotTimed.empty() && same(before->fma, after->fma) && same(before->read, after->read);
}

bool MatmulConditions::areJudged() const {
  return whyNotTimed.empty() && before && ceilings().areKnown();
}

double MatmulConditions::leastSeconds() const {
  return ceilings().leastSeconds(problem.flops(), problem.bytes());
}

bool MatmulConditions::computeBound() const {
  return ceilings().isComputeBound(problem.flops(), problem.bytes());
}

/// Percent of what the problem can reach.
static double percentOfCeiling(const MatmulConditions &c, const MatmulMeasurement &m) {
  return 100 * c.leastSeconds() / (m.timing->median * 1e-9);
}

/// The samples of the rounds that both took part in: those of the first rounds.
static Ratio pairedRatio(const Timing &a, const Timing &b) {
  const size_t rounds = std::min(a.samples.size(), b.samples.size());
  return ratioOf(std::span(a.samples).first(rounds), std::span(b.samples).first(rounds));
}

static bool isRight(const MatmulMeasurement &m) { return m.status == RecordStatus::Ok && m.timing; }

void cli::compareWithVendors(std::vector<MatmulMeasurement> &measured) {
  const MatmulMeasurement *best = nullptr;
  for (const MatmulMeasurement &m : measured)
    if (isRight(m) && m.variant.starts_with("vendor:") &&
        (!best || m.timing->median < best->timing->median))
      best = &m;
  for (MatmulMeasurement &m : measured)
    if (best && m.timing)
      m.vendorRatio = pairedRatio(*m.timing, *best->timing).median;
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

/// Null where one was not measured.
static Json ceilingsJson(const KernelCeilings &c) {
  auto known = [](double rate) { return rate > 0 ? Json(rate / 1e9) : Json(); };
  return {
      {"fma_gflops", known(c.fma)}, {"arithmetic", c.arithmetic}, {"read_gb_per_s", known(c.read)}};
}

Json cli::rowJson(const MatmulConditions &c, const MatmulMeasurement &m) {
  Json row = {{"name", c.problem.name()},
              {"family", "matmul"},
              {"problem", problemJson(c.problem)},
              {"target", c.target},
              {"threads", c.threads},
              {"variant", m.variant},
              {"status", statusName(m.status)},
              {"mode", c.mode}};
  if (!m.chosen.empty())
    row.update({{"chosen", m.chosen}, {"why", m.why}});
  if (!m.error.empty())
    row["error"] = m.error;
  const MatmulDetails &details = m.details;
  if (!details.schedule.empty())
    row.update({{"schedule", Json::parse(details.schedule, nullptr, false)},
                {"schedule_source", details.scheduleSource}});
  if (!details.library.empty())
    row["library"] = details.library;
  if (!details.codeHash.empty())
    row.update({{"code_hash", details.codeHash}, {"resources", toJson(details.resources)}});
  if (m.accuracy) {
    Json accuracy = accuracyJson(*m.accuracy);
    accuracy["rows"] = c.comparedRows;
    row.update({{"accuracy", accuracy}, {"compile_ms", details.compileMs}});
  }
  if (m.timing)
    row.update({{"samples_ns", m.timing->samples},
                {"batch", m.timing->batch},
                {"median_ns", m.timing->median},
                {"mad_ns", m.timing->mad},
                {"gflops", c.problem.flops() / m.timing->median},
                {"gb_per_s", c.problem.bytes() / m.timing->median},
                {"trusted", c.trusted()}});
  if (m.timing)
    row["ceilings"] = {{"before", ceilingsJson(*c.before)}, {"after", ceilingsJson(*c.after)}};
  if (m.timing && c.areJudged())
    row.update({{"pct_roofline", percentOfCeiling(c, m)},
                {"bound", c.computeBound() ? "compute" : "memory"}});
  if (m.timing && !c.whyNotTimed.empty())
    row.update({{"software", c.software}, {"why_untrusted", c.whyNotTimed}});
  if (m.vendorRatio)
    row["vendor_ratio"] = *m.vendorRatio;
  return row;
}

//===----------------------------------------------------------------------===//
// Table
//===----------------------------------------------------------------------===//

/// A number in six characters or so.
static std::string figure(double value) {
  return fmt::format("{:.{}f}", value, value < 9.995 ? 2 : value < 9999.5 ? 1 : 0);
}

/// A row's last column: where the schedule is from, or why there is no time.
static std::string sourceOf(const MatmulMeasurement &m) {
  return m.error.empty() ? m.details.scheduleSource : m.error;
}

static std::vector<std::string> cellsOf(const MatmulConditions &c, const MatmulMeasurement &m) {
  std::vector<std::string> cells = {m.variant, std::string(statusName(m.status))};
  if (m.timing) {
    for (double value : {m.timing->median / 1e3, c.problem.flops() / m.timing->median,
                         c.problem.bytes() / m.timing->median})
      cells.push_back(figure(value));
    if (c.areJudged()) {
      cells.push_back(figure(percentOfCeiling(c, m)));
      cells.emplace_back(c.computeBound() ? "compute" : "memory");
    }
  }
  cells.resize(7);
  cells.push_back(m.accuracy ? fmt::format("{:.1e}", m.accuracy->maxAbs) : "");
  cells.push_back(sourceOf(m));
  return cells;
}

/// Text in lines of up to `width` characters, those after the first indented.
static std::string wrapped(const std::string &text, size_t width) {
  std::string lines, line;
  auto flush = [&] {
    lines += line + "\n";
    line = "   ";
  };
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    if (line.size() > 3 && line.size() + 1 + word.size() > width)
      flush();
    line += (line.empty() ? "" : " ") + word;
    begin = end + 1;
  }
  flush();
  return lines;
}

static void printHeader(const MatmulConditions &c) {
  const std::string where = c.device.empty()
                                ? fmt::format("{} thread{}", c.threads, c.threads == 1 ? "" : "s")
                                : escapeControls(c.device);
  print(fmt::format("{}, {}, {}{}\n", c.problem.name(), where, c.mode,
                    c.comparedRows < size_t(c.problem.m)
                        ? fmt::format(", {} of {} rows verified", c.comparedRows, c.problem.m)
                        : ""));
  if (!c.before)
    return;
  if (!c.whyNotTimed.empty()) {
    print("not for timing: " + c.whyNotTimed + "\n");
    return;
  }
  const KernelCeilings most = c.ceilings();
  print(fmt::format(
      "ceilings: {}, {} GB/s{}\n",
      most.fma > 0 ? fmt::format("{} GFLOP/s ({})", figure(most.fma / 1e9), most.arithmetic)
                   : "arithmetic not measured",
      figure(most.read / 1e9), c.trusted() ? "" : "; they moved by more than 10 %: not trusted"));
}

static void printReasons(const std::vector<MatmulMeasurement> &measured) {
  constexpr size_t width = 100;
  for (const MatmulMeasurement &m : measured) {
    if (m.beside)
      continue;
    if (!m.why.empty())
      print(wrapped(m.variant + " is " + m.chosen + ": " + escapeControls(m.why), width));
    if (!m.error.empty())
      print(wrapped(m.variant + ": " + escapeControls(m.error), width));
  }
}

void cli::printMatmuls(const MatmulConditions &c, const std::vector<MatmulMeasurement> &measured,
                       const std::string &format) {
  RowTable table{
      {"variant", "status", "us", "GFLOP/s", "GB/s", "% ceiling", "bound", "error", "schedule"},
      {}};
  std::vector<Json> json;
  for (const MatmulMeasurement &m : measured) {
    if (m.beside)
      continue;
    table.rows.push_back(cellsOf(c, m));
    if (format == "table" && !m.error.empty())
      table.rows.back().back() = "see below";
    json.push_back(rowJson(c, m));
  }
  if (format == "table")
    printHeader(c);
  printRows(table, json, format);
  if (format != "table")
    return;
  printReasons(measured);
  if (json.size() == 1 && !measured.front().details.schedule.empty())
    print("schedule " + measured.front().details.schedule + "\n");
}

//===----------------------------------------------------------------------===//
// Records
//===----------------------------------------------------------------------===//

static Record recordOf(const MatmulConditions &c, const RecordKey &key, const MatmulMeasurement &m,
                       const MatmulMeasurement *baseline) {
  Record record;
  record.key = key;
  record.name = c.problem.name();
  record.variant = m.name();
  if (!m.details.schedule.empty())
    record.schedule = m.details.schedule;
  record.scheduleSource = m.details.scheduleSource;
  record.status = m.status;
  record.error = m.error;
  record.mode = c.mode;
  record.codeHash = m.details.codeHash;
  record.resources = m.details.resources;
  record.compileMs = m.details.compileMs;
  record.strategy = "benchmark";
  record.seed = static_cast<int64_t>(c.seed);
  record.created = recordTimeNow();
  record.inputs = "uniform[-1,1)";
  if (m.accuracy) {
    const Accuracy &a = *m.accuracy;
    record.accuracy = RecordAccuracy{"f64", a.maxAbs,       a.maxRel,    a.l2Rel, a.cosineDiff,
                                     a.nan, a.poisonedLeft, a.tolerance, a.pass};
  }
  if (!m.timing)
    return record;
  record.samplesNs = m.timing->samples;
  record.medianNs = m.timing->median;
  record.madNs = m.timing->mad;
  record.gflops = c.problem.flops() / m.timing->median;
  record.gbPerS = c.problem.bytes() / m.timing->median;
  if (c.areJudged()) {
    record.pctOfCeiling = percentOfCeiling(c, m);
    record.bound = c.computeBound() ? "compute" : "memory";
  }
  record.vendorRatio = m.vendorRatio;
  record.software = c.software;
  record.trusted = c.trusted();
  if (!record.trusted)
    record.whyUntrusted = !c.whyNotTimed.empty()
                              ? c.whyNotTimed
                              : "the machine's ceilings moved by more than 10 % meanwhile";
  if (baseline) {
    // Named as tuning names it, so that its records and these are compared.
    record.baseline = baselineOf(baseline->details.schedule);
    const size_t rounds = std::min(m.timing->samples.size(), baseline->timing->samples.size());
    record.samplesNs.resize(rounds);
    record.baselineNs.assign(baseline->timing->samples.begin(),
                             baseline->timing->samples.begin() + static_cast<ptrdiff_t>(rounds));
    record.ratio = pairedRatio(*m.timing, *baseline->timing).median;
  }
  return record;
}

Expected<std::string> cli::recordLines(const MatmulConditions &conditions, const RecordKey &key,
                                       const std::vector<MatmulMeasurement> &measured) {
  const auto baseline = std::ranges::find_if(
      measured, [](const MatmulMeasurement &m) { return isRight(m) && m.name() == "generated"; });
  std::string text;
  for (const MatmulMeasurement &m : measured) {
    if (!m.timing && m.status != RecordStatus::WrongResult)
      continue;
    KF_TRY(std::string line,
           recordLine(
               recordOf(conditions, key, m, baseline == measured.end() ? nullptr : &*baseline)));
    text += line + "\n";
  }
  return text;
}
