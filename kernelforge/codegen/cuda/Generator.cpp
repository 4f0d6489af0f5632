#include "kernelforge/codegen/cuda/Generator.h"

#include "kernelforge/codegen/cuda/Convention.h"
#include "kernelforge/codegen/cuda/Lowering.h"
#include "kernelforge/codegen/cuda/Ptx.h"
#include "kernelforge/codegen/cuda/Target.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/Generator.h"

#include <algorithm>

using namespace mlir;
using namespace kernelforge;

namespace {

class Generator final : public simt::Generator {
public:
  std::string_view kind() const override { return "cuda"; }

  Expected<Target> parse(std::string_view chip, std::string_view features,
                         const DeviceInfo *device) const override {
    return cuda::parseTarget(chip, features, device);
  }

  Status checkRunnable(const Target &target, const DeviceInfo &device) const override {
    return cuda::checkRunnable(target, device);
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry) const override {
    KF_TRY(Launching launching, simt::Generator::emit(module, kernel, target, entry));
    cuda::markBlocks(module, launching);
    return launching;
  }

  Status lower(ModuleOp module) const override { return cuda::lower(module); }

  Expected<std::string> compile(const EmittedKernel &emitted, const KernelAnalysis &kernel,
                                const Target &target) const override {
    return cuda::printPtx(emitted, target, simt::describe(kernel));
  }

  std::span<const std::string_view> stages() const override {
    static constexpr std::string_view names[] = {"target", "llvm", "ptx"};
    return names;
  }

  void registerDialects(DialectRegistry &registry) const override {
    simt::Generator::registerDialects(registry);
    cuda::registerLoweringDialects(registry);
  }

protected:
  Limits limitsOf(const Target &target) const override {
    Limits limits = target.limits;
    // Shared memory is declared, not asked for at a launch.
    limits.sharedBytes = std::min(limits.sharedBytes, cuda::mostStaticSharedBytes);
    limits.bindingBytes = cuda::mostBufferBytes;
    return limits;
  }
};

} // namespace

std::unique_ptr<CodeGenerator> cuda::createGenerator() { return std::make_unique<Generator>(); }
