// kernelforge compare: two reports of the evaluation suite, or two builds measured in turns.
#include "Commands.h"
#include "ComparisonRows.h"
#include "Rows.h"

#include "kernelforge/backend/cpu/CpuBackend.h"
#include "kernelforge/eval/Compare.h"
#include "kernelforge/eval/LiveCompare.h"
#include "kernelforge/eval/Suite.h"
#include "kernelforge/support/Progress.h"

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

Expected<Comparison> compareBuilds(CompareCommand &command, const Context &context) {
  LiveOptions &options = command.live;
  KF_TRY(JsonDocument suite, suiteDocument(command.suite));
  options.suite = suite.value();
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
                  "compare --live old/kernelforge new/kernelforge --suite smoke"},
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
          .add_option(
              "--restarts", own.restarts,
              "pairs of processes that rounds are spread over; three times as many for suspects")
          ->check(CLI::Range(1, 100))
          ->capture_default_str(),
  };
  addSeedOption(command, context);
  ofLive.push_back(command.get_option("--seed"));
  for (CLI::Option *option : ofLive)
    option->needs(live);
}
