// kernelforge compare: two reports of the evaluation suite, or two builds measured in turns.
#include "Commands.h"
#include "Rows.h"

#include "kernelforge/eval/Compare.h"
#include "kernelforge/eval/LiveCompare.h"
#include "kernelforge/support/Progress.h"

#include <fmt/format.h>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

struct CompareCommand {
  std::string a, b, suite, format;
  std::optional<double> threshold;
  CompareOptions stored;
  LiveOptions live;
  bool isLive = false;
};

constexpr size_t mostNameWidth = 32; // the table fits into 100 columns

/// A name, cut in its middle where the table has no room for it.
std::string shortName(const std::string &name) {
  if (name.size() <= mostNameWidth)
    return name;
  const size_t half = (mostNameWidth - 3) / 2;
  return name.substr(0, half) + "..." + name.substr(name.size() - half);
}

std::string orDash(const std::optional<double> &value, int digits) {
  return value ? fmt::format("{:.{}f}", *value, digits) : "-";
}

std::string microseconds(double nanoseconds) {
  const double value = nanoseconds / 1e3;
  return value < 1e4 ? fmt::format("{:.4g}", value) : fmt::format("{:.0f}", value);
}

RowTable tableOf(const Comparison &comparison, bool narrow) {
  RowTable table{{"row", "A us", "B us", "B/A", "95 %", "p", "n", "verdict"}, {}};
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
void printRemarks(const Comparison &comparison) {
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
  if (comparison.betweenRuns > 0)
    print(fmt::format("intervals include {:.1f} % that differs from run to run\n",
                      100 * std::expm1(comparison.betweenRuns)));
  print(fmt::format("{}: geometric mean of B/A {}, threshold {:.3g} %, alpha {:.3g}\n",
                    verdictName(comparison.verdict), orDash(comparison.geomeanRatio, 4),
                    100 * comparison.threshold, comparison.alpha));
}

void printComparison(const Comparison &comparison, const std::string &format,
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

Expected<Json> suiteDocument(const std::string &file) {
  KF_TRY(JsonDocument document, readJsonFile(file, "suite is not usable"));
  return document.value();
}

Expected<Comparison> compareBuilds(CompareCommand &command, const Context &context) {
  LiveOptions &options = command.live;
  KF_TRY(options.suite, suiteDocument(command.suite));
  options.threads = requestedThreads(context);
  options.seed = context.seed;
  options.threshold = command.threshold.value_or(options.threshold);
  options.alpha = command.stored.alpha;
  options.cancel = interruptFlag();
  std::optional<Progress> progress;
  int64_t shown = 0;
  options.progress = [&](int64_t done, int64_t total) {
    if (total != shown) // another stage
      progress.emplace("samples", shown = total);
    progress->update(done);
  };
  return compareLive(command.a, command.b, options);
}

Expected<Comparison> compareFiles(CompareCommand &command) {
  command.stored.threshold = command.threshold.value_or(command.stored.threshold);
  KF_TRY(Report a, readReport(command.a));
  KF_TRY(Report b, readReport(command.b));
  return compareReports(a, b, command.stored);
}

Expected<int> compare(CompareCommand command, const Context &context) {
  if (command.isLive == command.suite.empty())
    return unusable("wrong usage", "kernelforge compare",
                    command.isLive ? "--live needs --suite" : "--suite is of use with --live only",
                    "see kernelforge compare --help");
  KF_TRY(Comparison comparison,
         command.isLive ? compareBuilds(command, context) : compareFiles(command));
  printComparison(comparison, command.format, context);
  return comparison.verdict == Verdict::Regressed ? 1 : 0;
}

} // namespace

void cli::addCompare(CLI::App &app, Context &context) {
  auto options = std::make_shared<CompareCommand>();
  CLI::App &command =
      addCommand(app, context,
                 {"compare", "says which rows of two reports, or of two builds, differ",
                  "compare before.json after.json\n  kernelforge compare --live old/kernelforge "
                  "new/kernelforge --suite smoke"},
                 [options, &context] { return compare(*options, context); });
  command.add_option("A", options->a, "the report to compare with; with --live a program")
      ->required();
  command.add_option("B", options->b, "the report to judge; with --live a program")->required();
  addFormatOption(command, options->format);
  command
      .add_option("--threshold", options->threshold,
                  "least change that counts, as a share (default: 0.07; 0.03 with --live)")
      ->check(CLI::Range(0.001, 10.0));
  command
      .add_option("--alpha", options->stored.alpha, "probability of any false row that is accepted")
      ->check(CLI::Range(1e-6, 0.5))
      ->capture_default_str();
  CLI::Option *force = command.add_flag("--force", options->stored.force,
                                        "also where machine, suite or settings differ");
  CLI::Option *live =
      command.add_flag("--live", options->isLive, "A and B are programs, measured in turns");
  live->excludes(force);
  LiveOptions &own = options->live;
  std::vector<CLI::Option *> ofLive = {
      command.add_option("--suite", options->suite, "the suite to measure"),
      command.add_option("--filter", own.filter, "rows whose names match this pattern"),
      addThreadsOption(command, context),
      command.add_option("--rounds", own.rounds, "rounds of all rows")
          ->check(CLI::Range(5, 10'000))
          ->capture_default_str(),
      command
          .add_option("--restarts", own.restarts,
                      "pairs of processes that rounds are spread over; twice as many for suspects")
          ->check(CLI::Range(1, 100))
          ->capture_default_str(),
  };
  addSeedOption(command, context);
  ofLive.push_back(command.get_option("--seed"));
  for (CLI::Option *option : ofLive)
    option->needs(live);
}
