#include "ComparisonRows.h"

#include "NumberOptions.h"
#include "Rows.h"

#include <fmt/format.h>

#include <cmath>

using namespace kernelforge;
using namespace kernelforge::cli;

static constexpr size_t mostNameWidth = 30; // tables fit into 100 columns

std::string cli::shortName(const std::string &name) {
  if (name.size() <= mostNameWidth)
    return name;
  const size_t half = (mostNameWidth - 3) / 2;
  return name.substr(0, half) + "..." + name.substr(name.size() - half);
}

static std::string orDash(const std::optional<double> &value, int digits) {
  return value ? fmt::format("{:.{}f}", *value, digits) : "-";
}

static std::string microseconds(const std::optional<double> &nanoseconds) {
  if (!nanoseconds)
    return "-";
  const double value = *nanoseconds / 1e3;
  return value < 1e4 ? fmt::format("{:.4g}", value) : fmt::format("{:.0f}", value);
}

static RowTable tableOf(const Comparison &comparison, bool narrow) {
  const char *ratio = isCorrected(comparison) ? "B/A corr" : "B/A";
  RowTable table{{"row", "A us", "B us", ratio, "95 %", "p", "n", "verdict"}, {}};
  for (const RowComparison &row : comparison.rows) {
    const std::string name = escapeControls(row.name);
    table.rows.push_back(
        {narrow ? shortName(name) : name, microseconds(row.aMedianNs), microseconds(row.bMedianNs),
         orDash(row.ratio, 3),
         row.interval ? fmt::format("{:.3f}-{:.3f}", row.interval->low, row.interval->high) : "-",
         row.pAdjusted ? fmt::format("{:.1g}", *row.pAdjusted) : "-", std::to_string(row.samples),
         verdictName(row.verdict)});
  }
  return table;
}

/// What the table does not say: why rows have no verdict, what else changed, and the end.
static void printRemarks(const Comparison &comparison) {
  for (const RowComparison &row : comparison.rows)
    if (row.verdict == Verdict::Inconclusive) {
      const std::string needed = row.samplesNeeded && *row.samplesNeeded > row.samples
                                     ? fmt::format("; {} samples would decide", *row.samplesNeeded)
                                     : "";
      print(escapeControls(fmt::format("{}: {}{}", row.name, row.why, needed)) + "\n");
    }
  for (const FidelityChange &change : comparison.fidelityChanged)
    print(escapeControls(fmt::format("{}: result changed: {}", change.name, change.what)) + "\n");
  for (const std::string &name : comparison.onlyA)
    print(escapeControls(name) + ": only in A\n");
  for (const std::string &name : comparison.onlyB)
    print(escapeControls(name) + ": only in B\n");
  for (const std::string &difference : comparison.differences)
    print(escapeControls(difference) + "\n");
  if (isCorrected(comparison))
    print(
        "B/A corr is corrected for the machine's speed beside each sample; as measured it is B us "
        "/ A us\n");
  const std::string measured =
      comparison.geomeanMeasured
          ? fmt::format(" corrected, {:.4f} as measured", *comparison.geomeanMeasured)
          : "";
  print(fmt::format("{}: geometric mean of B/A {}{}, threshold {:.3g} %, alpha {:.3g}\n",
                    verdictName(comparison.verdict), orDash(comparison.geomeanRatio, 4), measured,
                    100 * comparison.threshold, comparison.alpha));
}

void cli::addComparingOptions(CLI::App &command, CompareOptions &options,
                              const std::string &least) {
  addNumber(command, "--threshold", options.threshold, least, 0.001, 10)->capture_default_str();
  addNumber(command, "--alpha", options.alpha, "probability of any false row that is accepted",
            1e-6, 0.5)
      ->capture_default_str();
  command.add_flag("--force", options.force, "also where machine, suite or settings differ");
}

void cli::printComparison(const Comparison &comparison, const std::string &format,
                          const Context &context) {
  const Json json = toJson(comparison);
  if (context.json)
    return printJson(json);
  const bool isTable = format == "table";
  const Json &rows = json["rows"];
  printRows(tableOf(comparison, isTable), {rows.begin(), rows.end()}, format);
  if (isTable)
    printRemarks(comparison);
}
