#include "kernelforge/codegen/cpu/Emit.h"

#include "kernelforge/codegen/CodeGenerator.h"
#include "kernelforge/codegen/Parameters.h"
#include "kernelforge/codegen/StepKernel.h"
#include "kernelforge/codegen/cpu/Step.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

Expected<ScheduleSpace> cpu::scheduleSpace(KernelOp kernel, const Target &target, int64_t threads) {
  KF_CHECK(supports(kernel));
  if (endsStep(kernel))
    return fixedSchedule();
  StringRef family = kernel.getFamily();
  if (family == "matmul")
    return matmul::scheduleSpace(kernel, target, threads);
  if (family == "attention")
    return attention::scheduleSpace(kernel, target, threads);
  return rowwise::scheduleSpace(kernel, target, threads);
}

Expected<Launching> cpu::emitKernel(ModuleOp module, KernelOp kernel, const Target &target,
                                    StringRef entry) {
  KF_CHECK(supports(kernel));
  StringRef family = kernel.getFamily();
  KF_TRY(Launching launching, endsStep(kernel)     ? step::emit(module, kernel, target, entry)
                              : family == "matmul" ? matmul::emit(module, kernel, target, entry)
                              : family == "attention"
                                  ? attention::emit(module, kernel, target, entry)
                                  : rowwise::emit(module, kernel, target, entry));
  // One function does all phases, on all buffers.
  for (Phase &phase : launching.phases) {
    phase.entry = entry.str();
    phase.parameters = allParameters(kernel, launching.workspaces.size());
  }
  return launching;
}
