#include "kernelforge/codegen/simt/Generator.h"

#include "kernelforge/codegen/simt/Emit.h"

using namespace mlir;
using namespace kernelforge;

Status simt::Generator::supports(const KernelAnalysis &kernel, const Target &target) const {
  return simt::supports(kernel, limitsOf(target));
}

Expected<ScheduleSpace> simt::Generator::scheduleSpace(const KernelAnalysis &kernel,
                                                       const Target &target,
                                                       int64_t workers) const {
  KF_CHECK(supports(kernel, target));
  return fixedSchedule();
}

Expected<Launching> simt::Generator::emit(ModuleOp module, const KernelAnalysis &kernel,
                                          const Target &target, StringRef entry) const {
  return simt::emit(module, kernel, limitsOf(target), entry);
}

Expected<std::string> simt::Generator::print(const EmittedKernel &emitted,
                                             const KernelAnalysis &kernel,
                                             const Target &target) const {
  return compile(emitted, kernel, target);
}

void simt::Generator::registerDialects(DialectRegistry &registry) const {
  simt::registerDialects(registry);
}
