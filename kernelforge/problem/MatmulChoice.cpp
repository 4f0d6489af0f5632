#include "kernelforge/problem/MatmulChoice.h"

#include "kernelforge/compiler/MatmulModule.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/Planner.h"
#include "kernelforge/compiler/RecordKeys.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

/// The problem's kernels, as far as `stage`.
static Expected<OwningOpRef<ModuleOp>> compiledTo(Stage stage, MLIRContext &context,
                                                  const MatmulProblem &problem,
                                                  const PipelineOptions &options) {
  loadStages(&context, options.target);
  KF_TRY(OwningOpRef<ModuleOp> module, buildMatmulModule(&context, problem));
  KF_CHECK(runToStage(*module, stage, options));
  return module;
}

Expected<RecordKey> kernelforge::matmulKey(const MatmulProblem &problem, const Target &target,
                                           int threads) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  KF_TRY(OwningOpRef<ModuleOp> module,
         compiledTo(Stage::Fused, context, problem, {target, threads, true, {}, {}}));
  auto kernels = module->getOps<KernelOp>();
  const auto count = std::distance(kernels.begin(), kernels.end());
  if (count != 1)
    return unusable("problem has no records", problem.name(),
                    fmt::format("it is {} kernels, records are of one", count));
  return recordKey(*kernels.begin(), target, threads);
}

Expected<MatmulChoice> kernelforge::chooseMatmul(const MatmulProblem &problem, const Target &target,
                                                 int threads,
                                                 const std::optional<RecordStore> &records) {
  KF_CHECK(checkProblem(problem));
  if (!isKernel(problem))
    return MatmulChoice{"parallel", "", "generated code adds a bias before all else"};
  MLIRContext context(MLIRContext::Threading::DISABLED);
  KF_TRY(OwningOpRef<ModuleOp> module,
         compiledTo(Stage::Scheduled, context, problem, {target, threads, true, {}, records}));
  MatmulChoice choice;
  for (auto kernel : module->getOps<KernelOp>()) {
    choice.why = kernel.getScheduleReason().value_or("").str();
    if (kernel.isGenerated())
      continue;
    choice.variant = kernel.getVariant()->str();
    if (kernel.getSchedule())
      choice.schedule = scheduleJson(kernel);
  }
  return choice;
}
