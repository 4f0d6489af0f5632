// Runs passes on textual modules: any registered pass, or the compiler up to a stage.
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/TargetFacts.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/passes/Passes.h"
#include "kernelforge/support/Log.h"
#include "kernelforge/support/OutputFile.h"

#include "mlir/Pass/PassRegistry.h"
#include "mlir/Support/FileUtilities.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Signals.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <csignal>

using namespace mlir;
using namespace kernelforge;

namespace {

/// The kind of target of a module: as its attribute says, else the default.
std::string targetKind(ModuleOp module) {
  auto target = module->getAttrOfType<transformer::TargetAttr>(targetAttrName);
  return target ? target.getKind().str() : targetKinds().front();
}

/// The target of a module: as its attribute says, else this machine with one thread, so that what
/// is printed does not depend on how many cores there are.
Expected<PipelineOptions> optionsFor(ModuleOp module) {
  PipelineOptions options;
  std::string cpu, features;
  if (auto target = module->getAttrOfType<transformer::TargetAttr>(targetAttrName)) {
    cpu = target.getCpu().str();
    for (StringAttr feature : target.getFeatures())
      features += (features.empty() ? "" : ",") + feature.str();
    options.threads = target.getThreads();
  }
  KF_TRY(options.target, parseTarget(targetKind(module), cpu, features));
  return options;
}

/// The whole compiler up to a stage as one pass, so that the driver's other options work with it.
class StagePass : public PassWrapper<StagePass, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(StagePass)

  explicit StagePass(std::string stage) : stage(std::move(stage)) {}
  StagePass(const StagePass &other) = default;

  StringRef getName() const override { return "kernelforge-stage"; }
  void getDependentDialects(DialectRegistry &registry) const override {
    registerAllStages(registry);
  }

  void runOnOperation() override {
    if (Status status = run(); !status) {
      // At its place, without the whole module after it.
      emitError(getOperation().getLoc(), status.error().line());
      signalPassFailure();
    }
  }

private:
  Status run() {
    const std::string kind = targetKind(getOperation());
    KF_TRY(std::vector<std::string> names, stageNames(kind));
    const Expected<Stage> reached = parseStage(stage, kind);
    const std::string last = std::move(names.back());
    names.pop_back();
    if (reached && *reached == Stage::Text)
      return unusable("stage is no module", stage, "it is text for people",
                      "print it with kernelforge emit-mlir FILE --stage " + last);
    if (!reached)
      return unusable(reached.error().what, stage, reached.error().why,
                      fmt::format("give --kernelforge-pipeline={} or {}",
                                  fmt::join(names.begin(), names.end() - 1, ", "), names.back()));
    KF_CHECK(checkNotBeyond(getOperation(), *reached, kind));
    KF_TRY(PipelineOptions options, optionsFor(getOperation()));
    return runToStage(getOperation(), *reached, options);
  }

  std::string stage;
};

/// --kernelforge-pipeline=STAGE
LogicalResult addStage(OpPassManager &passes, StringRef stage,
                       function_ref<LogicalResult(const Twine &)> error) {
  if (stage.empty())
    return error("--kernelforge-pipeline needs a stage");
  passes.addPass(std::make_unique<StagePass>(stage.str()));
  return success();
}

/// As MlirOptMain, which would put files in the place of devices and links.
Expected<int> processModule(StringRef input, StringRef output, DialectRegistry &registry,
                            const MlirOptMainConfig &config) {
  KF_TRY(const auto level, logLevelFromEnvironment(spdlog::level::warn));
  logToStandardError(level);
  std::string why;
  std::unique_ptr<llvm::MemoryBuffer> module = openInputFile(input, &why);
  if (!module)
    return unusable("module is not usable", input.str(), why);
  std::string text;
  llvm::raw_string_ostream stream(text);
  if (failed(MlirOptMain(stream, std::move(module), registry, config)))
    return 1; // its diagnostics have said why
  KF_CHECK(output == "-" ? writeStandardOutput(text) : writeOutput(output.str(), text));
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  prepareEnvironment();
  DialectRegistry registry;
  registerAllStages(registry);
  registerTransformsPasses();
  registerKernelForgePasses();
  registerPassPipeline("kernelforge-pipeline",
                       "Compile up to a stage: transformer, fused, scheduled, and those of the "
                       "module's target (target, llvm)",
                       addStage, [](function_ref<void(const detail::PassOptions &)>) {});
  llvm::sys::PrintStackTraceOnErrorSignal(argv[0]);
  std::signal(SIGPIPE, SIG_IGN); // a reader that has gone is no error
  const auto [input, output] =
      registerAndParseCLIOptions(argc, argv, "KernelForgeML pass driver\n", registry);
  const MlirOptMainConfig config = MlirOptMainConfig::createFromCLOptions();
  if (config.shouldShowDialects()) // it reads and writes no module
    return asMainReturnCode(MlirOptMain(argc, argv, input, output, registry));
  Expected<int> code = processModule(input, output, registry, config);
  if (code)
    return *code;
  llvm::errs() << "kernelforge-opt: error: " << code.error().line() << "\n";
  return static_cast<int>(code.error().kind);
}
