#include "kernelforge/compiler/AutoMatmul.h"

#include "kernelforge/compiler/GeneratedMatmul.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/RecordKeys.h"
#include "kernelforge/compiler/RecordedWinners.h"
#include "kernelforge/ir/Transformer.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

Expected<RecordKey> kernelforge::matmulKey(const MatmulProblem &problem, const Target &target,
                                           int threads) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  return matmulKey(&context, problem, target, threads);
}

Expected<RecordKey> kernelforge::matmulKey(MLIRContext *context, const MatmulProblem &problem,
                                           const Target &target, int threads) {
  loadStages(context, target);
  KF_TRY(OwningOpRef<ModuleOp> module, buildMatmulModule(context, problem));
  KF_CHECK(runToStage(*module, Stage::Fused, {target, threads, true, {}, {}}));
  auto kernels = module->getOps<KernelOp>();
  const auto count = std::distance(kernels.begin(), kernels.end());
  if (count != 1)
    return unusable("problem has no records", problem.name(),
                    fmt::format("it is {} kernels, records are of one", count));
  return recordKey(*kernels.begin(), target, threads);
}

/// Nothing where no record will do.
static std::optional<AutoMatmul> recordedMatmul(const MatmulRegistry &variants,
                                                const MatmulProblem &problem, int threads,
                                                const RecordKey &key, const RecordStore *records) {
  const auto found = RecordedWinners(records).find(
      key, [&](const Record &record) { return canRun(record, variants, problem, threads); });
  if (!found)
    return std::nullopt;
  const Record &record = found->record;
  std::string why = fmt::format("the fastest in the records of key {}{}", key.id(),
                                found->first ? "" : " that can run here");
  if (record.ratio && !record.baseline.empty())
    why += fmt::format(": {:.3f} of the time of {}", *record.ratio, record.baseline);
  return AutoMatmul{*variants.find(record.variant), scheduleOf(record), std::move(why)};
}

Expected<AutoMatmul> kernelforge::chooseMatmul(const MatmulRegistry &variants,
                                               const MatmulProblem &problem, const Target &target,
                                               int threads, const RecordStore *records) {
  KF_CHECK(checkProblem(problem));
  Expected<RecordKey> key = matmulKey(problem, target, threads);
  if (key)
    if (auto recorded = recordedMatmul(variants, problem, threads, *key, records))
      return std::move(*recorded);
  KF_TRY(const MatmulKernel *generated, variants.find("generated"));
  const MatmulSupport support = generated->supports(problem);
  if (support)
    return AutoMatmul{generated, "", "the rule: generated where no record says otherwise"};
  KF_TRY(const MatmulKernel *parallel, variants.find("parallel"));
  return AutoMatmul{parallel, "", "the rule: parallel where generated cannot: " + support.why};
}
