// kernelforge compare: two reports of the evaluation suite, or two builds measured in turns.
#include "Commands.h"
#include "ComparisonRows.h"
#include "NumberOptions.h"
#include "Rows.h"

#include "kernelforge/eval/Compare.h"
#include "kernelforge/eval/Html.h"
#include "kernelforge/eval/LiveCompare.h"
#include "kernelforge/eval/Suite.h"
#include "kernelforge/records/Record.h"
#include "kernelforge/support/Progress.h"

#include <filesystem>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

struct CompareCommand {
  std::string a, b, suite, format, html;
  const CLI::Option *threshold = nullptr; ///< where given, of both kinds
  CompareOptions stored;
  LiveOptions live;
  bool isLive = false;
};

/// A comparison, and what its page shows beside it: of builds nothing was kept but that.
struct Compared {
  Comparison comparison;
  Json document;
};

Expected<Compared> compareBuilds(CompareCommand &command, const Context &context) {
  LiveOptions &options = command.live;
  KF_TRY(JsonDocument suite, suiteDocument(command.suite));
  options.suite = suite.value();
  options.folder = std::filesystem::path(command.suite).parent_path();
  options.threads = requestedThreads(context);
  options.seed = context.seed;
  if (command.threshold->count() > 0)
    options.threshold = command.stored.threshold;
  options.alpha = command.stored.alpha;
  options.cancel = interruptFlag();
  std::optional<Progress> progress;
  int64_t shown = 0;
  options.progress = [&](int64_t done, int64_t total) {
    if (total != shown) // another stage
      progress.emplace("samples", shown = total);
    progress->update(done);
  };
  KF_TRY(Comparison comparison, compareLive(command.a, command.b, options));
  return Compared{std::move(comparison),
                  {{"schema_version", reportSchemaVersion},
                   {"suite", options.suite.value("name", command.suite)},
                   {"created", recordTimeNow()},
                   {"rows", Json::array()}}};
}

Expected<Compared> compareFiles(CompareCommand &command) {
  KF_TRY(Report a, readReport(command.a));
  KF_TRY(Report b, readReport(command.b));
  KF_TRY(Comparison comparison, compareReports(a, b, command.stored));
  return Compared{std::move(comparison), std::move(b.document)};
}

Expected<int> compare(CompareCommand command, const Context &context) {
  if (command.isLive == command.suite.empty())
    return unusable("wrong usage", "kernelforge compare",
                    command.isLive ? "--live needs --suite" : "--suite is of use with --live only",
                    "see kernelforge compare --help");
  KF_TRY(Compared compared,
         command.isLive ? compareBuilds(command, context) : compareFiles(command));
  printComparison(compared.comparison, command.format, context);
  if (!command.html.empty()) {
    compared.document["comparison"] = toJson(compared.comparison);
    KF_CHECK(writeHtmlReport(command.html, compared.document));
  }
  return compared.comparison.verdict == Verdict::Regressed ? 1 : 0;
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
  command.add_option("--html", options->html,
                     "also write a page: the comparison, and the report B; with --live only that");
  addComparingOptions(command, options->stored,
                      "least change that counts, as a share; with --live it is 0.03");
  options->threshold = command.get_option("--threshold");
  CLI::Option *live =
      command.add_flag("--live", options->isLive, "A and B are programs, measured in turns");
  live->excludes(command.get_option("--force"));
  LiveOptions &own = options->live;
  std::vector<CLI::Option *> ofLive = {
      command.add_option("--suite", options->suite, "the suite to measure"),
      command.add_option("--filter", own.filter, "rows whose names match this pattern"),
      addThreadsOption(command, context),
      addInteger(command, "--rounds", own.rounds, "rounds of all rows", 5, 10'000)
          ->capture_default_str(),
      addInteger(command, "--restarts", own.restarts,
                 "pairs of processes that rounds are spread over; three times as many for suspects",
                 1, 100)
          ->capture_default_str(),
  };
  addSeedOption(command, context);
  ofLive.push_back(command.get_option("--seed"));
  for (CLI::Option *option : ofLive)
    option->needs(live);
}
