#include "kernelforge/codegen/cuda/Generator.h"

#include "kernelforge/codegen/cuda/Convention.h"
#include "kernelforge/codegen/cuda/Lowering.h"
#include "kernelforge/codegen/cuda/Ptx.h"
#include "kernelforge/codegen/cuda/Target.h"
#include "kernelforge/codegen/simt/Emit.h"

#include <algorithm>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

namespace {

/// What plain SIMT code may take of a target: its shared memory is static.
Limits simtLimits(const Target &target) {
  Limits limits = target.limits;
  limits.sharedBytes = std::min(limits.sharedBytes, cuda::mostStaticSharedBytes);
  limits.bindingBytes = cuda::mostBufferBytes;
  return limits;
}

class Generator final : public CodeGenerator {
public:
  std::string_view kind() const override { return "cuda"; }

  Expected<Target> parse(std::string_view chip, std::string_view features,
                         const DeviceInfo *device) const override {
    return cuda::parseTarget(chip, features, device);
  }

  Status checkRunnable(const Target &target, const DeviceInfo &device) const override {
    return cuda::checkRunnable(target, device);
  }

  Status supports(KernelOp kernel, const Target &target) const override {
    return simt::supports(kernel, simtLimits(target));
  }

  Expected<ScheduleSpace> scheduleSpace(KernelOp kernel, const Target &target,
                                        int64_t workers) const override {
    KF_CHECK(supports(kernel, target));
    return fixedSchedule();
  }

  Expected<Launching> emit(ModuleOp module, KernelOp kernel, const Target &target,
                           StringRef entry) const override {
    KF_TRY(Launching launching, simt::emit(module, kernel, simtLimits(target), entry));
    cuda::markBlocks(module, launching);
    return launching;
  }

  Status lower(ModuleOp module) const override { return cuda::lower(module); }

  Expected<std::string> compile(const EmittedKernel &emitted, KernelOp kernel,
                                const Target &target) const override {
    return cuda::printPtx(emitted, target, simt::describe(kernel));
  }

  Expected<std::string> print(const EmittedKernel &emitted, KernelOp kernel,
                              const Target &target) const override {
    return compile(emitted, kernel, target);
  }

  std::span<const std::string_view> stages() const override {
    static constexpr std::string_view names[] = {"target", "llvm", "ptx"};
    return names;
  }

  void registerDialects(DialectRegistry &registry) const override {
    simt::registerDialects(registry);
    cuda::registerLoweringDialects(registry);
  }
};

} // namespace

std::unique_ptr<CodeGenerator> cuda::createGenerator() { return std::make_unique<Generator>(); }
