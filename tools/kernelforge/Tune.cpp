// tune: finds schedules for one matmul or for all kernels of a model, and keeps them as records.
#include "BlockOption.h"
#include "Commands.h"
#include "LanguageModel.h"
#include "Rows.h"

#include "kernelforge/autotune/Tuner.h"
#include "kernelforge/compiler/GeneratedMatmul.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/ir/ModuleBuilder.h"
#include "kernelforge/support/Paths.h"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cli;
using namespace kernelforge::transformer;

namespace {

struct TuneCommand {
  ModelChoice model;
  std::string family, weights = "f32", strategy = "model", start;
  MatmulProblem matmul;
  int trials = 48, patience = 0;
  int64_t depth = 512;
  double seconds = 0;
};

/// One kernel to tune, with how much of the time it deserves.
struct Target {
  std::unique_ptr<KernelProblem> problem;
  double share = 1; ///< of the time of all: calls in a token or prompt times about what one takes
};

std::string shortText(const Choice &choice) {
  return fmt::format("{:.3f} of its baseline's time (mad {:.3f}, {} rounds)", choice.ratio.median,
                     choice.ratio.mad, choice.ratio.rounds);
}

} // namespace

/// Options of every problem of this command. Depth is what attention has in its cache.
static Expected<ProblemOptions> problemOptions(const TuneCommand &command, const Context &context,
                                               bool decode) {
  ProblemOptions options;
  KF_TRY(options.target, requestedTarget(context));
  KF_CHECK(checkRunnable(options.target));
  options.threads = requestedThreads(context);
  options.seed = context.seed;
  options.past = decode ? command.depth : 0;
  return options;
}

/// The kernels of `module` that are launched by a function; the more often, the earlier.
static Expected<std::vector<Target>> kernelsOf(ModuleOp module, const TuneCommand &command,
                                               const Context &context) {
  std::vector<Target> targets;
  for (auto kernel : module.getOps<KernelOp>()) {
    int calls = 0;
    bool decode = false;
    module.walk([&](LaunchOp launch) {
      if (launch.getKernel() != kernel.getSymName())
        return;
      ++calls;
      decode |= launch->getParentOfType<func::FuncOp>().getSymName() == "decode";
    });
    if (calls == 0)
      continue;
    KF_TRY(ProblemOptions options, problemOptions(command, context, decode));
    Target target;
    KF_TRY(target.problem, KernelProblem::create(kernel, options));
    const double seconds =
        std::max(target.problem->flops() / 1e11, target.problem->bytes() / 2e10) + 1e-6;
    // A prompt of hundreds of tokens is prefilled once, decoding goes on token after token.
    target.share = calls * seconds * (decode ? 64 : 1);
    targets.push_back(std::move(target));
  }
  std::sort(targets.begin(), targets.end(), [](const Target &a, const Target &b) {
    return std::tuple(-a.share, a.problem->name()) < std::tuple(-b.share, b.problem->name());
  });
  return targets;
}

static Expected<OwningOpRef<ModuleOp>>
moduleOf(MLIRContext *mlirContext, const TuneCommand &command, const Context &context) {
  OwningOpRef<ModuleOp> module;
  if (command.family.empty()) {
    KF_TRY(ModelFile file, openChosenModel(command.model, context));
    module = buildDecoderModule(mlirContext, file, command.model.prefillChunk, 1);
  } else {
    KF_TRY(module, buildMatmulModule(mlirContext, command.matmul));
  }
  KF_TRY(CpuTarget target, requestedTarget(context));
  KF_CHECK(runToStage(*module, Stage::Fused, {target, requestedThreads(context), true, {}, {}}));
  return module;
}

/// A line that changes, on a terminal.
static void showProgress(const TuneProgress &p) {
  static const bool terminal = ::isatty(STDERR_FILENO) != 0;
  if (!terminal)
    return;
  const std::string left =
      p.allowed > 0 ? fmt::format(", {:.0f} s left", std::max(0.0, p.allowed - p.seconds)) : "";
  fmt::print(stderr, "\r\x1b[Ktune {}: trial {} of {}, best {:.3f} of the default{}", p.kernel,
             p.trial, p.trials, p.best, left);
  std::fflush(stderr);
}

static Json resultJson(const KernelProblem &problem, const TuneResult &result) {
  return {{"kernel", problem.name()},
          {"family", problem.family()},
          {"key", problem.key().id()},
          {"trials", result.trials},
          {"measured", result.measured},
          {"failed", result.failed},
          {"schedule", Json::parse(result.choice.record.schedule)},
          {"ratio_to_default", result.choice.ratio.median},
          {"reason", result.choice.reason},
          {"code_hash", result.choice.record.codeHash},
          {"proposals", result.proposals}};
}

static Expected<int> tune(const TuneCommand &command, const Context &context) {
  const auto begin = std::chrono::steady_clock::now();
  auto spent = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  KF_TRY(std::filesystem::path folder, recordsDirectory());
  const RecordStore store(folder);
  DialectRegistry registry;
  registerAllStages(registry);
  MLIRContext mlirContext(registry, MLIRContext::Threading::DISABLED);
  mlirContext.loadAllAvailableDialects();
  KF_TRY(OwningOpRef<ModuleOp> module, moduleOf(&mlirContext, command, context));
  KF_TRY(std::vector<Target> targets, kernelsOf(*module, command, context));

  double shares = 0;
  for (const Target &target : targets)
    shares += std::sqrt(target.share);
  std::vector<Json> rows;
  RowTable table{{"kernel", "trials", "new", "failed", "of default", "schedule"}, {}};
  for (const Target &target : targets) {
    TuneOptions options;
    options.strategy = command.strategy;
    options.seed = context.seed;
    options.trials = command.trials;
    options.patience = command.patience;
    options.cancel = interruptFlag();
    options.progress = showProgress;
    if (!command.start.empty()) {
      KF_TRY(KnobValues start, parseKnobs(command.start, "--start"));
      const KnobValues whole = target.problem->space().complete(start);
      KF_CHECK(target.problem->space().check(whole));
      options.start = whole;
    }
    if (command.seconds > 0) { // what is left, by how much each kernel matters
      options.seconds = (command.seconds - spent()) * std::sqrt(target.share) / shares;
      shares -= std::sqrt(target.share);
      if (options.seconds <= 0)
        break;
    }
    KF_TRY(TuneResult result, tuneKernel(*target.problem, store, options));
    if (::isatty(STDERR_FILENO))
      fmt::print(stderr, "\r\x1b[K");
    rows.push_back(resultJson(*target.problem, result));
    table.rows.push_back({target.problem->name(), std::to_string(result.trials),
                          std::to_string(result.measured), std::to_string(result.failed),
                          fmt::format("{:.3f}", result.choice.ratio.median),
                          result.choice.record.schedule});
    if (!context.json)
      spdlog::info("{}: {}; {}", target.problem->name(), shortText(result.choice),
                   result.choice.reason);
  }
  if (context.json)
    printJson({{"kernels", rows}, {"seconds", spent()}, {"records", store.logFile().string()}});
  else
    printRows(table, rows, "table");
  return 0;
}

void cli::addTune(CLI::App &app, Context &context) {
  auto options = std::make_shared<TuneCommand>();
  CLI::App &command =
      addCommand(app, context,
                 {"tune", "searches good schedules and keeps them as records",
                  "tune --family matmul -m 512 -n 1536 -k 576 --weights q4_1 --trials 40"},
                 [options, &context]() -> Expected<int> {
                   const ModelChoice &model = options->model;
                   const bool wholeModel = !model.model.empty() || !model.randomWeights.empty();
                   if (wholeModel != options->family.empty())
                     return unusable("wrong usage", "tune", "what to tune is not said",
                                     "give either --model or --family");
                   if (!options->family.empty()) {
                     KF_TRY(options->matmul.weights, parseWeightType(options->weights));
                     KF_CHECK(checkProblem(options->matmul));
                   }
                   return tune(*options, context);
                 });
  addTargetOptions(command, context);
  addSeedOption(command, context);
  command.add_option("--model", options->model.model,
                     "all kernels of a model: a name, file or folder");
  command.add_option("--random-weights", options->model.randomWeights,
                     "those of a random model: a config.json, a GGUF file's shape, or smollm2, "
                     "tinyllama, tiny");
  command.add_option("--random-type", options->model.randomType, "type of random weights")
      ->capture_default_str();
  command.add_option("--prefill-chunk", options->model.prefillChunk, "rows of a prefill run")
      ->check(CLI::Range(int64_t(1), int64_t(1) << 20))
      ->capture_default_str();
  command.add_option("--family", options->family, "one kernel")->check(CLI::IsMember({"matmul"}));
  command.add_option("-m", options->matmul.m, "rows of the input");
  command.add_option("-n", options->matmul.n, "columns of the result");
  command.add_option("-k", options->matmul.k, "columns of the input");
  command.add_option("--weights", options->weights, "type of the weight")->capture_default_str();
  command.add_flag("--transpose", options->matmul.transpose, "the weight is [k, n]");
  command.add_option("--strategy", options->strategy, "grid, random, evolutionary or model")
      ->capture_default_str();
  command.add_option("--trials", options->trials, "candidates of each kernel at most")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  command.add_option("--seconds", options->seconds, "time for all kernels together; 0: no limit")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  command
      .add_option("--early-stop", options->patience,
                  "end after so many candidates without a better one; 0: never")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  command.add_option("--depth", options->depth, "positions in the cache before a decoded token")
      ->check(CLI::Range(int64_t(0), int64_t(1) << 20))
      ->capture_default_str();
  command
      .add_option("--start", options->start,
                  "a schedule to measure beside, in place of the analytic one (for experiments)")
      ->group("Experiments");
}
