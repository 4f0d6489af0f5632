#include "kernelforge/codegen/cpu/Emit.h"

#include "kernelforge/codegen/CodeGenerator.h"
#include "kernelforge/codegen/Parameters.h"
#include "kernelforge/codegen/cpu/Step.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

namespace {

/// What a family's emitter consists of.
struct Emitter {
  Expected<ScheduleSpace> (*scheduleSpace)(const KernelAnalysis &, const Target &, int64_t threads);
  Expected<Launching> (*emit)(ModuleOp, const KernelAnalysis &, const Target &, StringRef entry);
};

Emitter emitterOf(KernelFamily family) {
  switch (family) {
  case KernelFamily::Matmul:
    return {cpu::matmul::scheduleSpace, cpu::matmul::emit};
  case KernelFamily::Attention:
    return {cpu::attention::scheduleSpace, cpu::attention::emit};
  case KernelFamily::Rowwise:
    return {cpu::rowwise::scheduleSpace, cpu::rowwise::emit};
  case KernelFamily::Step:
    return {[](const KernelAnalysis &, const Target &, int64_t) -> Expected<ScheduleSpace> {
              return fixedSchedule();
            },
            cpu::step::emit};
  }
  llvm_unreachable("a family without an emitter");
}

} // namespace

Expected<ScheduleSpace> cpu::scheduleSpace(const KernelAnalysis &kernel, const Target &target,
                                           int64_t threads) {
  KF_CHECK(supports(kernel));
  return emitterOf(kernel.family()).scheduleSpace(kernel, target, threads);
}

Expected<Launching> cpu::emitKernel(ModuleOp module, const KernelAnalysis &kernel,
                                    const Target &target, StringRef entry) {
  KF_CHECK(supports(kernel));
  KF_TRY(Launching launching, emitterOf(kernel.family()).emit(module, kernel, target, entry));
  // One function does all phases, on all buffers.
  for (Phase &phase : launching.phases) {
    phase.entry = entry.str();
    phase.parameters = allParameters(kernel.kernel(), launching.workspaces.size());
  }
  return launching;
}
