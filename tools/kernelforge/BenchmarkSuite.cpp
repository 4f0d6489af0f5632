// benchmark-suite: the kernels of a suite verified and timed in rounds; a report, and what it says
// beside an older one.
#include "Commands.h"
#include "ComparisonRows.h"
#include "NumberOptions.h"
#include "NumericsOption.h"
#include "Rows.h"
#include "SuiteOptions.h"
#include "Usage.h"

#include "kernelforge/compiler/Targets.h"
#include "kernelforge/eval/Compare.h"
#include "kernelforge/eval/Html.h"
#include "kernelforge/eval/RooflineSvg.h"
#include "kernelforge/eval/SuiteReport.h"
#include "kernelforge/support/MappedFile.h"
#include "kernelforge/support/OutputFile.h"
#include "kernelforge/support/Progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include <unistd.h>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace fs = std::filesystem;

namespace {

struct SuiteCommand {
  std::string suite = "transformer", filter, mode = "performance", cache = "warm";
  std::string numerics = "exact";
  std::string out, baseline, html, roofline, format = "table";
  std::vector<std::string> slow;
  double minSeconds = 0, patience = usualPatience;
  CompareOptions comparing;
  std::vector<const CLI::Option *> ofTiming; ///< of no use where nothing is timed
  int rounds = usualRounds, warmup = 3;
  bool list = false, resume = false, noVendors = false;
};

/// One run of the command.
class SuiteRun {
public:
  SuiteRun(SuiteCommand command, const Context &context)
      : command(std::move(command)), context(context) {}
  Expected<int> run();

private:
  Expected<SuiteOptions> suiteOptions() const;
  Status readBaseline();
  Status prepareOutput(const char *option, const std::string &file) const;
  Status resume();
  Status keepPrevious() const;
  Status write(const Json &report) const;
  Expected<int> answer(Json report);

  SuiteCommand command;
  const Context &context;
  std::optional<Report> baseline;
  std::unique_ptr<SuiteRunner> runner;
  std::optional<SuiteRounds> rounds;
  std::optional<SuiteReport> report;
  std::optional<Progress> progress;
  std::string stage;
};

/// What a person sees of a row, in 100 columns where it `isNarrow`.
std::vector<std::string> cellsOf(const Json &row, bool isNarrow) {
  const auto number = [&](const char *name, int digits) {
    return row.contains(name) ? fmt::format("{:.{}f}", row[name].get<double>(), digits) : "";
  };
  const std::string status = row["status"];
  const std::string name = escapeControls(row["name"].get<std::string>());
  const bool timed = row.contains("median_ns");
  const double time = timed ? row["median_ns"].get<double>() : 0;
  return {isNarrow ? shortName(name) : name,
          timed ? fmt::format("{:.{}f}", time / 1e3, time < 1e5 ? 2 : 0) : "",
          timed ? fmt::format("{:.1f}", 100 * row["mad_ns"].get<double>() / time) : "",
          number("gflops", 1),
          number("gb_per_s", 1),
          number("pct_roofline", 0),
          row.value("bound", ""),
          number("vendor_ratio", 2),
          status != "ok"               ? status
          : row.value("trusted", true) ? "ok"
                                       : "untrusted"};
}

} // namespace

static Expected<int> listSuites(const SuiteCommand &command, const Context &context) {
  std::vector<std::string> names = suiteNames();
  if (command.suite != "transformer" && std::ranges::count(names, command.suite) == 0)
    names = {command.suite};
  Json all = Json::array();
  for (const std::string &name : names) {
    KF_TRY(Suite suite, findSuite(name));
    Json rows = Json::array();
    for (const SuiteRow &row : suite.rows)
      rows.push_back(row.name);
    if (!context.json) {
      print(fmt::format("{:<16} {:>4} rows  {}\n", suite.name, suite.rows.size(), suite.summary));
      for (const SuiteRow &row : suite.rows)
        if (context.verbosity > 0)
          print("  " + escapeControls(row.name) + "\n");
    }
    all.push_back({{"name", suite.name}, {"summary", suite.summary}, {"rows", std::move(rows)}});
  }
  if (context.json)
    printJson({{"suites", std::move(all)}});
  return 0;
}

Expected<SuiteOptions> SuiteRun::suiteOptions() const {
  SuiteOptions options;
  KF_TRY(options.rows.session, requestedSession(context));
  options.rows.session.threads = requestedThreads(context);
  options.rows.seed = context.seed;
  options.timed = command.mode == "performance";
  options.bitwise = command.mode == "bitwise";
  options.rows.vendors = options.timed && !command.noVendors;
  options.cold = command.cache == "cold";
  options.warmup = command.warmup;
  KF_TRY(options.slow, parseSlow(command.slow));
  options.cancel = interruptFlag();
  return options;
}

Status SuiteRun::readBaseline() {
  std::error_code error;
  if (fs::equivalent(command.baseline, command.out, error))
    return unusable("wrong usage", "--baseline " + command.baseline,
                    "the new report would take its place", "give --out another file");
  KF_TRY(baseline, readReport(command.baseline));
  return {};
}

/// Makes a folder for a file that is about to be written.
static Status makeFolderOf(const std::string &file, const char *what) {
  const fs::path folder = fs::path(file).parent_path();
  std::error_code error;
  if (!folder.empty() && !fs::create_directories(folder, error) && error)
    return failed(std::string(what) + " cannot be written", file, error.message());
  return {};
}

/// What would keep a page or a picture from being written is found before anything is measured.
Status SuiteRun::prepareOutput(const char *option, const std::string &file) const {
  std::error_code error;
  const std::string where = fmt::format("{} {}", option, file);
  for (const std::string *other : {&command.out, &command.baseline})
    if (!other->empty() &&
        (fs::path(file).lexically_normal() == fs::path(*other).lexically_normal() ||
         fs::equivalent(file, *other, error)))
      return unusable("wrong usage", where, "it would take the place of a report",
                      fmt::format("give {} another file", option));
  KF_CHECK(makeFolderOf(file, "file"));
  if (fs::is_directory(file, error))
    return unusable("wrong usage", where, "it is a folder", "name a file in it");
  const fs::path folder = fs::path(file).parent_path();
  const fs::path written = fs::exists(file, error) ? fs::path(file)
                           : folder.empty()        ? fs::path(".")
                                                   : folder;
  if (::access(written.c_str(), W_OK) != 0)
    return failed("file cannot be written", file, std::generic_category().message(errno),
                  fmt::format("give {} a file in a folder that can be written", option));
  return {};
}

/// Whether a file is a report that --resume could go on with.
static bool isPartial(const std::string &file) {
  auto document = readJsonFile(file, "report is not usable");
  return document && document->root().booleanOr("partial", false).value_or(false);
}

/// What is at --out and is not the beginning of a report stays, beside it: what is measured now may
/// be interrupted.
Status SuiteRun::keepPrevious() const {
  std::error_code error;
  if (!fs::is_regular_file(command.out, error) || isPartial(command.out))
    return {};
  constexpr uint64_t mostBytes = uint64_t(1) << 30;
  KF_TRY(std::string previous, readFile(command.out, "report cannot be kept", mostBytes));
  return writeOutput(command.out + ".previous", previous);
}

Status SuiteRun::resume() {
  if (!fs::exists(command.out))
    return missing("report is not here", command.out, "there is nothing to go on with",
                   "leave out --resume");
  KF_TRY(JsonDocument document, readJsonFile(command.out, "report is not usable"));
  KF_CHECK(report->resume(document.root()));
  return rounds->resume(document.root());
}

Status SuiteRun::write(const Json &json) const {
  KF_CHECK(makeFolderOf(command.out, "report"));
  return writeOutput(command.out, json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

Expected<int> SuiteRun::answer(Json json) {
  std::optional<Comparison> comparison;
  if (baseline) {
    KF_TRY(Report now, parseReport(json.dump(), command.out));
    KF_TRY(comparison, compareReports(*baseline, now, command.comparing));
    json["comparison"] = toJson(*comparison);
  }
  KF_CHECK(write(json));
  if (!command.html.empty())
    KF_CHECK(writeHtmlReport(command.html, json));
  if (!command.roofline.empty())
    KF_CHECK(writeRooflineSvg(command.roofline, json));
  RowTable table{{"row", "us", "+-%", "GFLOP/s", "GB/s", "% roof", "bound", "vendor", "status"},
                 {}};
  for (const Json &row : json["rows"])
    table.rows.push_back(cellsOf(row, command.format == "table"));
  if (context.json) {
    printJson(json);
  } else {
    printRows(table, {json["rows"].begin(), json["rows"].end()}, command.format);
    if (command.format == "table")
      print(fmt::format("{} rows of the suite {}, {} rounds: {}\n", json["rows"].size(),
                        json["suite"].get<std::string>(), rounds->rounds(), command.out));
  }
  for (const Json &row : json["rows"])
    if (row.contains("why_untrusted"))
      fmt::print(stderr, "{}: untrusted: {}\n", escapeControls(row["name"].get<std::string>()),
                 row["why_untrusted"].get<std::string>());
  for (const Json &row : json["rows"])
    if (row.contains("error"))
      fmt::print(stderr, "{}: {}\n", escapeControls(row["name"].get<std::string>()),
                 escapeControls(row["error"].get<std::string>()));
  if (comparison && !context.json)
    printComparison(*comparison, "table", context);
  if (const int failed = rounds->failedRows(); failed > 0)
    return cli::report(
        Error{ErrorKind::No, "verification failed", command.out,
              fmt::format("{} of {} rows are wrong or did not run", failed, json["rows"].size()),
              "see their status and error above"},
        false);
  return comparison && comparison->verdict == Verdict::Regressed ? 1 : 0;
}

Expected<int> SuiteRun::run() {
  if (command.list)
    return listSuites(command, context);
  if (command.mode != "performance")
    for (const CLI::Option *option : command.ofTiming)
      if (option->count() > 0)
        return unusable("wrong usage", option->get_name(), "nothing is timed in this mode",
                        "take --mode performance");
  if (!command.baseline.empty())
    KF_CHECK(readBaseline());
  for (auto [option, file] :
       {std::pair("--html", &command.html), {"--roofline", &command.roofline}})
    if (!file->empty())
      KF_CHECK(prepareOutput(option, *file));
  KF_TRY(Suite suite, findSuite(command.suite));
  KF_TRY(const ChosenNumerics numerics, requestedNumerics(command.numerics, context));
  KF_TRY(suite, filterSuite(withNumerics(std::move(suite), numerics), command.filter));
  KF_TRY(SuiteOptions options, suiteOptions());
  SessionOptions &session = options.rows.session;
  KF_TRY(session.target, targetHere(std::move(session.target), session.device));
  if (command.minSeconds > 0)
    command.rounds = std::max(
        command.rounds, static_cast<int>(std::ceil(command.minSeconds / options.batchSeconds)));
  KF_TRY(runner, SuiteRunner::create(std::move(suite), std::move(options)));

  RoundsOptions rounding;
  rounding.rounds = command.rounds;
  rounding.seed = context.seed;
  rounding.patience = command.patience;
  rounding.progress = [this](const std::string &what, int64_t done, int64_t total) {
    if (!progress || what != stage)
      progress.emplace(stage = what, total);
    progress->update(done);
  };
  if (isReplaceable(command.out)) // elsewhere each would come after the one before
    rounding.checkpoint = [this] { return write(report->toJson(*rounds)); };
  rounds.emplace(*runner, std::move(rounding));
  report.emplace(*runner, ReportSettings{command.rounds, context.seed, command.filter,
                                         targetText(runner->options().rows.session.target)});
  if (baseline) { // before hours are spent on what is refused
    KF_TRY(Report now, parseReport(report->toJson(*rounds).dump(), command.out));
    for (const SuiteRow &row : runner->suite().rows) // none is prepared yet
      now.rows.emplace_back().name = row.name;
    KF_CHECK(checkComparable(*baseline, now, command.comparing.force));
  }
  KF_CHECK(command.resume ? resume() : keepPrevious());
  Status status = rounds->run();
  progress.reset();
  if (!status) {
    if (status.error().kind == ErrorKind::Interrupted) {
      if (rounds->isWhole())
        KF_CHECK(write(report->toJson(*rounds)));
      Error error = status.error();
      error.where = command.out;
      error.why = fmt::format("{} of {} rounds were measured", rounds->rounds(), command.rounds);
      error.hint = "run it again with --resume to go on";
      return tl::unexpected(std::move(error));
    }
    return tl::unexpected(status.error());
  }
  return answer(report->toJson(*rounds));
}

void cli::addBenchmarkSuite(CLI::App &app, Context &context) {
  auto options = std::make_shared<SuiteCommand>();
  CLI::App &command = addCommand(
      app, context,
      {"benchmark-suite", "verify and time the kernels of a suite, write a report, compare it",
       "benchmark-suite --suite smoke --out new.json --baseline old.json --html new.html"},
      [options, &context] {
        // A report of each target of its own: none takes the place of another's.
        if (options->out.empty())
          options->out = fmt::format("reports/{}_baseline.json", context.target);
        return SuiteRun(*options, context).run();
      });
  addTargetOptions(command, context);
  addSeedOption(command, context);
  command.add_option("--suite", options->suite, "a suite's name, or a file")->capture_default_str();
  command.add_flag("--list", options->list, "list the suites; with -v also their rows");
  command
      .add_option("--filter", options->filter,
                  "only rows whose name contains a match of this regular expression")
      ->excludes("--list");
  command
      .add_option("--mode", options->mode,
                  "performance; correctness: verify only; bitwise: and two runs are equal")
      ->check(oneOf({"correctness", "bitwise", "performance"}))
      ->capture_default_str();
  addInteger(command, "--rounds", options->rounds, "samples of each row", 1, 1000)
      ->capture_default_str();
  addNumber(command, "--min-time", options->minSeconds, "measure each row at least so many seconds",
            0, 10);
  addNumber(
      command, "--patience", options->patience,
      "wait for a machine that is not itself, or shared, as a multiple of the measuring's time", 0,
      100)
      ->capture_default_str();
  addInteger(command, "--warmup", options->warmup, "calls before the first sample", 0, 1000)
      ->capture_default_str();
  command
      .add_option("--cache", options->cache,
                  "warm, or cold: a sample is one call after the caches were emptied")
      ->check(oneOf({"warm", "cold"}))
      ->capture_default_str();
  addNumericsOption(command, options->numerics, "a row that does not say it by itself");
  command.add_flag("--no-vendors", options->noVendors,
                   "do not time vendors' libraries beside ours");
  command.add_option("--out", options->out, "the report (default: reports/TARGET_baseline.json)");
  command.add_flag("--resume", options->resume, "go on with the partial report of --out");
  command.add_option("--baseline", options->baseline,
                     "compare with this report; exit code 1 where a row regressed");
  addComparingOptions(command, options->comparing, "least change that counts, as a share");
  for (const char *name : {"--threshold", "--alpha", "--force"})
    command.get_option(name)->needs("--baseline");
  command.add_option("--html", options->html, "also write the report as a page");
  command.add_option("--roofline", options->roofline,
                     "also draw the rows under the machine's measured ceilings, as SVG");
  for (const char *name : {"--rounds", "--min-time", "--patience", "--warmup", "--cache",
                           "--no-vendors", "--baseline", "--roofline"})
    options->ofTiming.push_back(command.get_option(name));
  addFormatOption(command, options->format);
  addSlowOption(command, options->slow);
}
