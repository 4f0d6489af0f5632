#include "kernelforge/codegen/webgpu/Generator.h"

#include "kernelforge/codegen/simt/Generator.h"
#include "kernelforge/codegen/webgpu/Emit.h"
#include "kernelforge/codegen/webgpu/Methods.h"
#include "kernelforge/codegen/webgpu/Target.h"

using namespace mlir;
using namespace kernelforge;

namespace {

class WebGpuGenerator final : public simt::Generator {
public:
  std::string_view kind() const override { return "webgpu"; }

  Expected<Target> parse(std::string_view chip, std::string_view features,
                         const DeviceInfo *device) const override {
    return webgpu::parseTarget(chip, features, device);
  }

  Status checkRunnable(const Target &target, const DeviceInfo &device) const override {
    return webgpu::checkRunnable(target, device);
  }

  /// Quants by 16 bytes; plain numbers are read so as they lie.
  WeightLayout layoutFor(RankedTensorType weight) const override {
    return info(*elementTypeOf(weight)).isQuantized() ? WeightLayout::Planes
                                                      : WeightLayout::RowMajor;
  }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    return webgpu::methods().supports(kernel, target);
  }

  Expected<ScheduleSpace> scheduleSpace(const KernelAnalysis &kernel, const Target &target,
                                        int64_t workers) const override {
    return webgpu::methods().scheduleSpace(kernel, target);
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry) const override {
    return webgpu::emitInPieces(module, kernel, target, entry);
  }

  Expected<std::string> compile(const EmittedKernel &emitted, const KernelAnalysis &kernel,
                                const Target &target) const override {
    return webgpu::wgslText(*emitted.module, emitted.launching, kernel, target);
  }

  std::span<const std::string_view> stages() const override {
    static constexpr std::string_view names[] = {"target", "wgsl"};
    return names;
  }
};

} // namespace

std::unique_ptr<CodeGenerator> webgpu::createGenerator() {
  return std::make_unique<WebGpuGenerator>();
}
