#include "kernelforge/compiler/AutoMatmul.h"

#include "kernelforge/compiler/GeneratedMatmul.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/RecordKeys.h"
#include "kernelforge/ir/Transformer.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

Expected<RecordKey> kernelforge::matmulKey(const MatmulProblem &problem, const CpuTarget &target,
                                           int threads) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  loadAllStages(&context);
  KF_TRY(OwningOpRef<ModuleOp> module, buildMatmulModule(&context, problem));
  KF_CHECK(runToStage(*module, Stage::Fused, {target, threads, true, {}, {}}));
  auto kernels = module->getOps<KernelOp>();
  const auto count = std::distance(kernels.begin(), kernels.end());
  if (count != 1)
    return unusable("problem has no records", problem.name(),
                    fmt::format("it is {} kernels, records are of one", count));
  return recordKey(*kernels.begin(), target, threads);
}

namespace {

/// Looks for the winner of one problem.
class Recorded {
public:
  Recorded(const MatmulRegistry &variants, const MatmulProblem &problem, int threads)
      : variants(variants), problem(problem), threads(threads) {}

  /// Nothing where no record will do.
  Expected<std::optional<AutoMatmul>> find(const RecordStore &store, const RecordKey &key) const {
    KF_TRY(BestTable table, store.best());
    std::optional<Record> best = table.find(key);
    if (!best)
      return std::nullopt;
    if (isUsable(*best))
      return choice(*best, fmt::format("the fastest in the records of key {}", key.id()));
    // The table knows the winner only. The next ones are in the logs.
    KF_TRY(RecordLog log, store.load());
    ChoiceOptions options;
    options.admits = [&](const Record &record) { return isUsable(record); };
    if (std::optional<Choice> next = choose(log.records, key, options))
      return choice(
          next->record,
          fmt::format("the fastest in the records of key {} that can run here", key.id()));
    return std::nullopt;
  }

private:
  const MatmulKernel *kernelOf(const Record &record) const {
    auto kernel = variants.find(record.variant);
    return kernel ? *kernel : nullptr;
  }

  static std::string scheduleOf(const Record &record) {
    return record.schedule == "{}" ? "" : record.schedule;
  }

  bool isUsable(const Record &record) const {
    const MatmulKernel *kernel = kernelOf(record);
    if (!kernel || !kernel->supports(problem))
      return false;
    const std::string schedule = scheduleOf(record);
    if (schedule.empty())
      return true;
    const std::optional<ScheduleSpace> space = kernel->scheduleSpace(problem, threads);
    const Expected<KnobValues> knobs = parseKnobs(schedule, "records");
    return space && knobs && space->check(*knobs);
  }

  AutoMatmul choice(const Record &record, std::string why) const {
    if (record.ratio && !record.baseline.empty())
      why += fmt::format(": {:.3f} of the time of {}", *record.ratio, record.baseline);
    return {kernelOf(record), scheduleOf(record), std::move(why)};
  }

  const MatmulRegistry &variants;
  const MatmulProblem &problem;
  int threads;
};

} // namespace

Expected<AutoMatmul> kernelforge::chooseMatmul(const MatmulRegistry &variants,
                                               const MatmulProblem &problem,
                                               const CpuTarget &target, int threads,
                                               const RecordStore *records) {
  KF_CHECK(checkProblem(problem));
  Expected<RecordKey> key = matmulKey(problem, target, threads);
  if (records && key) {
    auto recorded = Recorded(variants, problem, threads).find(*records, *key);
    if (!recorded)
      spdlog::warn("{}; going on without records", recorded.error().line());
    else if (*recorded)
      return std::move(**recorded);
  }
  KF_TRY(const MatmulKernel *generated, variants.find("generated"));
  const MatmulSupport support = generated->supports(problem);
  if (support)
    return AutoMatmul{generated, "", "the rule: generated where no record says otherwise"};
  KF_TRY(const MatmulKernel *parallel, variants.find("parallel"));
  return AutoMatmul{parallel, "", "the rule: parallel where generated cannot: " + support.why};
}
