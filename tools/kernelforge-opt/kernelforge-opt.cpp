// Runs passes on textual modules: any registered pass, or the compiler up to a stage.
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/passes/Passes.h"

#include "mlir/Pass/PassRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;
using namespace kernelforge;

namespace {

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
  KF_TRY(options.target, parseTarget(cpu, features));
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
      getOperation().emitError(status.error().line());
      signalPassFailure();
    }
  }

private:
  Status run() {
    KF_TRY(Stage reached, parseStage(stage));
    if (reached == Stage::Asm)
      return unusable("unknown stage", stage, "it is no module",
                      "use kernelforge emit-mlir --stage asm");
    KF_TRY(PipelineOptions options, optionsFor(getOperation()));
    return runToStage(getOperation(), reached, options);
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

} // namespace

int main(int argc, char **argv) {
  DialectRegistry registry;
  registerAllStages(registry);
  registerTransformsPasses();
  registerKernelForgePasses();
  registerPassPipeline("kernelforge-pipeline",
                       "Compile up to a stage: transformer, fused, scheduled, target or llvm",
                       addStage, [](function_ref<void(const detail::PassOptions &)>) {});
  return asMainReturnCode(MlirOptMain(argc, argv, "KernelForgeML pass driver\n", registry));
}
