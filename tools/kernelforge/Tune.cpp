// tune: finds schedules for one matmul or for all kernels of a model, and keeps them as records.
#include "BlockOption.h"
#include "Commands.h"
#include "LanguageModel.h"
#include "MatmulRun.h"
#include "ModuleText.h"
#include "NumberOptions.h"
#include "NumericsOption.h"
#include "Rows.h"
#include "ScheduleOption.h"
#include "TuneUsage.h"
#include "Usage.h"

#include "kernelforge/autotune/Replay.h"
#include "kernelforge/autotune/Tuner.h"
#include "kernelforge/compiler/MatmulModule.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/ir/Numerics.h"
#include "kernelforge/llm/RandomModel.h"
#include "kernelforge/measure/Ceilings.h"
#include "kernelforge/support/Log.h"
#include "kernelforge/support/OutputFile.h"
#include "kernelforge/support/Paths.h"
#include "kernelforge/support/Suggest.h"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cli;
using namespace kernelforge::transformer;

namespace {

struct TuneCommand {
  ModelChoice model;
  std::string file, kernel, family, weights = "f32", strategy = "model", start, recordTo;
  std::vector<std::string> replays;
  MatmulProblem matmul;
  int trials = 0, patience = 0, points = 2000, seeds = 50, records = 0;
  int64_t depth = 512;
  double seconds = 0;
  bool isDepthGiven = false;
};

/// One kernel to tune, with how much of the time it deserves.
struct TunedKernel {
  std::unique_ptr<KernelProblem> problem;
  double share = 1; ///< of the time of all: calls in a token or prompt times about what one takes
};

/// What came of a search, for people.
std::string outcomeText(const TuneResult &result) {
  if (!result.foundBetter)
    return "nothing better found; " + result.choice.reason;
  const Ratio &ratio = result.choice.ratio;
  return fmt::format("{:.3f} of its baseline's time (mad {:.3f}, {} rounds); {}", ratio.median,
                     ratio.mad, ratio.rounds, result.choice.reason);
}

} // namespace

/// Options of every problem of this command. Depth is what attention has in its cache.
static Expected<ProblemOptions> problemOptions(const TuneCommand &command, const Context &context,
                                               bool decode) {
  ProblemOptions options;
  KF_TRY(options.target, requestedTarget(context));
  KF_TRY(options.target, targetHere(std::move(options.target), context.device));
  options.device = context.device;
  options.threads = requestedThreads(context);
  options.seed = context.seed;
  options.past = decode ? command.depth : 0;
  return options;
}

/// Bytes that no cache of a GPU holds.
static constexpr int64_t uncachedOnDevice = int64_t(256) << 20;

/// Bytes of weights that one pass of the module reads, as far as they matter for where they come
/// from; 0 where a single kernel is tuned, whose weights stay where they are. A device with a clock
/// of its own never reads the same twice: its cache holds weights that a model's would not stay in.
static int64_t streamedBytes(ModuleOp module, const DeviceInfo &device) {
  if (device.hasOwnClock() && !device.software)
    return uncachedOnDevice;
  int64_t most = 0, launches = 0;
  for (auto function : module.getOps<func::FuncOp>()) {
    int64_t bytes = 0;
    for (Type type : function.getArgumentTypes()) {
      auto tensor = dyn_cast<RankedTensorType>(type);
      if (tensor && tensor.hasStaticShape() && tensor.getRank() == 2)
        bytes += tensor.getDimSize(0) *
                 static_cast<int64_t>(
                     rowBytes(*elementTypeOf(tensor), tensor.getDimSize(1)).value_or(0));
    }
    most = std::max(most, bytes);
    function.walk([&](LaunchOp) { ++launches; });
  }
  return launches > 1 ? std::min(most, uncachedBytes()) : 0;
}

/// The kernels of `module` that are launched by a function; the more often, the earlier.
static Expected<std::vector<TunedKernel>> kernelsOf(ModuleOp module, const TuneCommand &command,
                                                    const Context &context,
                                                    const DeviceInfo &device) {
  std::vector<TunedKernel> targets;
  const int64_t streamed = streamedBytes(module, device);
  for (auto kernel : module.getOps<KernelOp>()) {
    int calls = 0;
    bool decode = false;
    module.walk([&](LaunchOp launch) {
      if (launch.getKernel() != kernel.getSymName())
        return;
      ++calls;
      decode |= launch->getParentOfType<func::FuncOp>().getSymName() == "decode";
    });
    if (calls == 0 || (!command.kernel.empty() && kernel.getSymName() != command.kernel))
      continue;
    KF_TRY(ProblemOptions options, problemOptions(command, context, decode));
    options.streamBytes = streamed;
    TunedKernel target;
    KF_TRY(target.problem, KernelProblem::create(kernel, options));
    const double seconds =
        std::max(target.problem->flops() / 1e11, target.problem->bytes() / 2e10) + 1e-6;
    // A prompt of hundreds of tokens is prefilled once, decoding goes on token after token.
    target.share = calls * seconds * (decode ? 64 : 1);
    targets.push_back(std::move(target));
  }
  std::sort(targets.begin(), targets.end(), [](const TunedKernel &a, const TunedKernel &b) {
    return std::tuple(-a.share, a.problem->name()) < std::tuple(-b.share, b.problem->name());
  });
  return targets;
}

static Expected<OwningOpRef<ModuleOp>>
moduleOf(MLIRContext *mlirContext, const TuneCommand &command, const Context &context) {
  const bool isModel = command.file.empty() && command.family.empty();
  const std::string usual = isModel ? "fast" : "exact"; // as the commands that run it
  KF_TRY(
      const ChosenNumerics numerics,
      requestedNumerics(command.model.numerics.empty() ? usual : command.model.numerics, context));
  OwningOpRef<ModuleOp> module;
  if (!command.file.empty()) {
    KF_TRY(module, parseRunnableModule(mlirContext, command.file));
    KF_CHECK(setNumerics(*module, numerics));
    if (command.isDepthGiven && !module->lookupSymbol<func::FuncOp>("decode"))
      return unusable("wrong usage", "--depth", "it is for the module's @decode, and it has none",
                      "leave it out");
  } else if (command.family.empty()) {
    KF_TRY(ModelFile file, openChosenModel(command.model, context));
    const ElementType cacheType = cacheTypeOf(command.model);
    KF_CHECK(checkCacheType(file, cacheType));
    KF_TRY(const int64_t chunk, prefillChunkOf(command.model, context, /*allLogits=*/false));
    KF_TRY(module, buildDecoderModule(mlirContext, file, chunk, 1, cacheType, numerics));
  } else {
    MatmulProblem problem = command.matmul;
    problem.numerics = numerics.of(problem.product());
    KF_TRY(module, buildMatmulModule(mlirContext, problem));
  }
  KF_TRY(Target target, requestedTarget(context));
  KF_CHECK(runToStage(*module, Stage::Fused, {target, requestedThreads(context), true, {}, {}}));
  return module;
}

/// Says of kernels whose schedule the file itself has that records do not change it.
static void warnOfPinned(const std::string &file, ModuleOp module,
                         const std::vector<TunedKernel> &targets) {
  std::vector<std::string> pinned;
  for (const TunedKernel &target : targets) {
    auto kernel = module.lookupSymbol<KernelOp>(target.problem->name());
    if (kernel && kernel.getSchedule())
      pinned.push_back("@" + target.problem->name());
  }
  if (!pinned.empty())
    logger().warn("{} keeps its own schedule of {}, whatever is found: remove schedule = ... "
                  "from it for the records to decide",
                  escapeControls(file), fmt::join(pinned, ", "));
}

/// Why no kernel is left.
static tl::unexpected<Error> nothingToTune(ModuleOp module, const std::string &kernel) {
  std::vector<std::string> names;
  module.walk([&](LaunchOp launch) {
    if (std::string name = launch.getKernel().str(); std::ranges::count(names, name) == 0)
      names.push_back(std::move(name));
  });
  if (names.empty())
    return unusable("nothing to tune", "module", "its functions compute nothing");
  return unusable("nothing to tune", "--kernel " + kernel,
                  fmt::format("the module launches {}", fmt::join(names, ", ")),
                  didYouMean(kernel, names));
}

static int trialsOf(const TuneCommand &command) {
  if (command.trials > 0)
    return command.trials;
  return command.seconds > 0 ? 1'000'000 : 48;
}

/// --start: a schedule, or "poor" for one that the model expects to be the worst.
static Expected<KnobValues> startOf(const ScheduleSpace &space, const std::string &text) {
  if (text == "poor") {
    const std::vector<KnobValues> some = space.legal(1024);
    return *std::max_element(some.begin(), some.end(), [&](const auto &a, const auto &b) {
      return space.predict(a) < space.predict(b);
    });
  }
  KF_TRY(KnobValues start, readSchedule("--start", text));
  start = space.complete(start);
  KF_CHECK(space.check(start));
  return start;
}

/// A line that changes, on a terminal.
static void showProgress(const TuneProgress &p) {
  static const bool terminal = ::isatty(STDERR_FILENO) != 0;
  if (!terminal)
    return;
  const std::string left =
      p.allowed > 0 ? fmt::format(", {:.0f} s left", std::max(0.0, p.allowed - p.seconds)) : "";
  const std::string of = p.allowed > 0 ? "" : fmt::format(" of {}", p.trials);
  const std::string vendor =
      p.vendor.empty() ? "" : fmt::format(" and {:.3f} of {}", p.best / p.vendorRatio, p.vendor);
  fmt::print(stderr, "\r\x1b[Ktune {}: trial {}{}, best {:.3f} of the default{}{}", p.kernel,
             p.trial, of, p.best, vendor, left);
  std::fflush(stderr);
}

static Json resultJson(const KernelProblem &problem, const TuneResult &result) {
  Json variants = Json::array();
  for (const VariantResult &v : result.variants) {
    variants.push_back({{"variant", v.variant}, {"status", statusName(v.status)}});
    if (v.status == RecordStatus::Ok)
      variants.back()["ratio_to_default"] = v.ratio;
  }
  return {{"kernel", problem.name()},
          {"family", problem.family()},
          {"key", problem.key().id()},
          {"trials", result.trials},
          {"measured", result.measured},
          {"failed", result.failed},
          {"prior_trials", result.priors},
          {"schedule", Json::parse(result.choice.record.schedule)},
          {"better_found", result.foundBetter},
          {"ratio_to_default", result.choice.ratio.median},
          {"reason", result.choice.reason},
          {"variants", variants},
          {"code_hash", result.choice.record.codeHash},
          {"proposals", result.proposals}};
}

/// What else was measured, for people: "parallel 1.203, vendor:openblas 0.950 of the default".
static std::string variantsText(const TuneResult &result) {
  std::string text;
  for (const VariantResult &v : result.variants)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", v.variant,
                        v.status == RecordStatus::Ok ? fmt::format("{:.3f}", v.ratio)
                                                     : std::string(statusName(v.status)));
  return text + " of the default";
}

/// --record-space: the truth about one kernel's space, for --replay.
static Expected<int> recordTruth(const TuneCommand &command, const Context &context,
                                 const std::vector<TunedKernel> &targets) {
  if (targets.size() != 1)
    return unusable("wrong usage", "--record-space",
                    fmt::format("there are {} kernels", targets.size()), "name one with --kernel");
  TuneOptions options;
  options.seed = context.seed;
  options.cancel = interruptFlag();
  options.progress = showProgress;
  KF_TRY(Json space, recordSpace(*targets.front().problem, command.points, options));
  const std::string text = space.dump() + "\n";
  KF_CHECK(writeOutput(command.recordTo, text));
  KF_TRY(ReplaySpace replayed, parseReplaySpace(text, command.recordTo));
  const auto analytic = replayed.seconds.find(knobsText(replayed.space.analytic));
  const bool measured = analytic != replayed.seconds.end() && std::isfinite(analytic->second);
  print(fmt::format("{} points in {}; the best takes {:.1f} us, the analytic default {:.1f} us\n",
                    space["points"].size(), command.recordTo,
                    space["best_seconds"].get<double>() * 1e6,
                    (measured ? analytic->second : space["baseline_seconds"].get<double>()) * 1e6));
  return 0;
}

/// --replay: how many trials each strategy needs on recorded spaces.
static Expected<int> replayTruths(const TuneCommand &command, const Context &context) {
  RowTable table{{"space", "points", "good", "default", "strategy", "median", "p90"}, {}};
  std::vector<Json> rows;
  const StrategyRegistry registry = defaultStrategies();
  const std::vector<std::string> names = registry.names();
  std::vector<ReplaySpace> spaces;
  for (const std::string &file : command.replays) {
    KF_TRY(ReplaySpace space, readReplaySpace(file));
    spaces.push_back(std::move(space));
  }
  KF_TRY(auto all, replaySummaries(spaces, registry, names, static_cast<uint64_t>(command.seeds),
                                   static_cast<size_t>(command.records)));
  for (size_t i = 0; i < spaces.size(); ++i) {
    const ReplaySpace &space = spaces[i];
    const auto analytic = space.seconds.find(knobsText(space.space.analytic));
    const double share = analytic == space.seconds.end() ? 0 : space.best / analytic->second;
    size_t good = 0;
    for (const auto &[schedule, seconds] : space.seconds)
      good += space.isGood(seconds);
    const std::string name = std::filesystem::path(command.replays[i]).stem().string();
    for (const ReplaySummary &summary : all[i]) {
      rows.push_back({{"space", name},
                      {"points", space.seconds.size()},
                      {"good", good},
                      {"analytic_share_of_best", share},
                      {"strategy", summary.strategy},
                      {"median_trials", summary.median},
                      {"p90_trials", summary.p90}});
      table.rows.push_back({name, std::to_string(space.seconds.size()), std::to_string(good),
                            fmt::format("{:.1f} %", 100 * share), summary.strategy,
                            std::to_string(summary.median), std::to_string(summary.p90)});
    }
  }
  printRows(table, rows, context.json ? "jsonl" : "table");
  return 0;
}

static Expected<int> tune(const TuneCommand &command, const Context &context) {
  KF_TRY(auto device, createDevice(context.target, context.device));
  const DeviceInfo info = device->info();
  device.reset();
  const auto begin = std::chrono::steady_clock::now();
  auto spent = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  KF_TRY(std::filesystem::path folder, recordsDirectory());
  const RecordStore store(folder);
  if (command.recordTo.empty()) // what is found is of no use where it cannot be kept
    KF_CHECK(store.writable());
  DialectRegistry registry;
  registerAllStages(registry);
  MLIRContext mlirContext(registry, MLIRContext::Threading::DISABLED);
  mlirContext.loadAllAvailableDialects();
  KF_TRY(OwningOpRef<ModuleOp> module, moduleOf(&mlirContext, command, context));
  KF_TRY(std::vector<TunedKernel> targets, kernelsOf(*module, command, context, info));
  if (targets.empty())
    return nothingToTune(*module, command.kernel);
  warnOfPinned(command.file, *module, targets);
  if (info.software)
    logger().warn("{} is emulated by the processor: not for timing, and its records never win",
                  escapeControls(info.name));
  if (!command.recordTo.empty())
    return recordTruth(command, context, targets);

  double shares = 0;
  for (const TunedKernel &target : targets)
    shares += std::sqrt(target.share);
  int lost = 0; // records that were not kept
  std::vector<Json> rows;
  RowTable table{{"kernel", "trials", "new", "failed", "of default", "schedule"}, {}};
  for (const TunedKernel &target : targets) {
    TuneOptions options;
    options.strategy = command.strategy;
    options.seed = context.seed;
    options.trials = trialsOf(command);
    options.patience = command.patience;
    options.otherVariants = info.callsLibraries;
    options.cancel = interruptFlag();
    options.progress = showProgress;
    if (!command.start.empty()) {
      KF_TRY(options.start, startOf(target.problem->space(), command.start));
    }
    if (command.seconds > 0) { // what is left, by how much each kernel matters
      options.seconds = (command.seconds - spent()) * std::sqrt(target.share) / shares;
      shares -= std::sqrt(target.share);
      if (options.seconds <= 0) {
        const size_t left = targets.size() - rows.size();
        if (rows.empty())
          return makeError(ErrorKind::No, "nothing was tuned", "--seconds",
                           "they were over before the first kernel", "give more");
        logger().warn("{} of {} kernels were not tuned: the time is over", left, targets.size());
        break;
      }
    }
    KF_TRY(TuneResult result, tuneKernel(*target.problem, store, options));
    if (::isatty(STDERR_FILENO))
      fmt::print(stderr, "\r\x1b[K");
    rows.push_back(resultJson(*target.problem, result));
    // What was measured of the default beside itself is noise.
    const double ratio = result.foundBetter ? result.choice.ratio.median : 1;
    table.rows.push_back(
        {target.problem->name(), std::to_string(result.trials), std::to_string(result.measured),
         std::to_string(result.failed), fmt::format("{:.3f}", ratio),
         (result.foundBetter ? "" : "nothing better found: ") + result.choice.record.schedule});
    lost += result.lost;
    if (!context.json)
      logger().info("{}: {}", target.problem->name(), outcomeText(result));
    if (!context.json && !result.variants.empty())
      logger().info("{}: {}", target.problem->name(), variantsText(result));
  }
  if (context.json)
    printJson({{"kernels", rows},
               {"device", {{"name", info.name}, {"software", info.software}}},
               {"seconds", spent()},
               {"records", store.logFile().string()}});
  else
    printRows(table, rows, "table");
  if (lost > 0)
    return cli::report(Error{ErrorKind::Failed, "records were lost", store.logFile().string(),
                             fmt::format("{} of what was measured could not be kept", lost),
                             "make room, then run it again to measure what is missing"},
                       false);
  return 0;
}

void cli::addTune(CLI::App &app, Context &context) {
  auto options = std::make_shared<TuneCommand>();
  CLI::App &command =
      addCommand(app, context,
                 {"tune", "searches good schedules and keeps them as records",
                  "tune --family matmul -m 512 -n 1536 -k 576 --weights q4_1 --trials 40"},
                 [options, &app, &context]() -> Expected<int> {
                   const CLI::App &self = *app.get_subcommand("tune");
                   KF_CHECK(checkTuneUsage(self));
                   if (!options->replays.empty())
                     return replayTruths(*options, context);
                   options->isDepthGiven = self.get_option("--depth")->count() > 0;
                   if (!options->family.empty()) {
                     KF_TRY(options->matmul.weights, parseWeightType(options->weights));
                     KF_CHECK(checkProblem(options->matmul));
                   }
                   return tune(*options, context);
                 });
  addTargetOptions(command, context);
  command.get_option("--no-records")->group(""); // checkTuneUsage says why
  addSeedOption(command, context);
  command.add_option("file", options->file, "all kernels of a module (- reads stdin)");
  command.add_option("--kernel", options->kernel, "of them only that one");
  command.add_option("--model", options->model.model,
                     "all kernels of a model: a name, file or folder");
  command.add_option("--random-weights", options->model.randomWeights,
                     "those of a random model: a config.json, a GGUF file's shape, or " +
                         builtInShapes());
  command.add_option("--random-type", options->model.randomType, "type of random weights")
      ->capture_default_str();
  addChunkOption(command, options->model);
  addCacheOption(command, options->model);
  options->model.numerics.clear(); // by what is tuned
  addNumericsOption(command, options->model.numerics,
                    "a row (of a model by default fast, else exact)");
  command.add_option("--family", options->family, "one kernel")->check(oneOf({"matmul"}));
  addProblemSizes(command, options->matmul);
  command.add_option("--weights", options->weights, "type of the weight")->capture_default_str();
  command.add_flag("--transpose", options->matmul.transpose, "the weight is [k, n]");
  command.add_option("--strategy", options->strategy, "grid, random, evolutionary or model")
      ->capture_default_str();
  addInteger(command, "--trials", options->trials,
             "candidates of each kernel at most (default: 48, with --seconds what fits)", 1,
             1'000'000);
  addNumber(command, "--seconds", options->seconds, "time for all kernels together; 0: no limit", 0,
            1e6)
      ->capture_default_str();
  addInteger(command, "--early-stop", options->patience,
             "end after so many candidates without a better one; 0: never", 0, 1'000'000)
      ->capture_default_str();
  addInteger(command, "--depth", options->depth, "positions in the cache before a decoded token", 0,
             int64_t(1) << 20)
      ->capture_default_str();
  command
      .add_option("--record-space", options->recordTo,
                  "measure a kernel's whole space into a file, for --replay")
      ->group("Experiments");
  addInteger(command, "--points", options->points, "schedules of it at most", 1, 10'000'000)
      ->capture_default_str()
      ->group("Experiments");
  addTexts(command, "--replay", options->replays,
           "trials that each strategy needs on recorded spaces; measures nothing")
      ->group("Experiments");
  addInteger(command, "--seeds", options->seeds, "searches of each strategy and space", 1, 10'000)
      ->capture_default_str()
      ->group("Experiments");
  addInteger(command, "--records", options->records,
             "trials of each other space of the same knobs that a search has, too", 0, 10'000)
      ->capture_default_str()
      ->group("Experiments");
  command
      .add_option("--start", options->start,
                  "a schedule to begin with and to measure beside in place of the analytic one, "
                  "or poor: one that should be the worst")
      ->group("Experiments");
}
