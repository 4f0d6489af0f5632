#include "kernelforge/codegen/webgpu/Generator.h"

#include "kernelforge/codegen/simt/Generator.h"
#include "kernelforge/codegen/webgpu/Emit.h"
#include "kernelforge/codegen/webgpu/Methods.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;

namespace {

/// What every implementation of WebGPU has (the standard's default limits).
Limits portableLimits() {
  Limits limits;
  limits.sharedBytes = 16384;
  limits.threadsPerBlock = 256;
  limits.blocksPerDimension = 65535;
  limits.bufferAlignment = 256;
  limits.bindings = 8;
  limits.bindingBytes = int64_t(128) << 20;
  limits.indexBits = 32;
  return limits;
}

class Generator final : public simt::Generator {
public:
  std::string_view kind() const override { return "webgpu"; }

  Expected<Target> parse(std::string_view chip, std::string_view features,
                         const DeviceInfo *device) const override {
    if (!features.empty())
      return unusable("target is not usable", std::string(features),
                      "WGSL is made for no processor's features", "leave out the features");
    Target target;
    target.kind = kind();
    target.triple = "wgsl";
    if (chip == "portable" || (chip.empty() && !device)) {
      target.chip = "portable";
      target.limits = portableLimits();
      return target;
    }
    if (!chip.empty() && chip != "native")
      return unusable("target is not known", std::string(chip),
                      "WGSL is made for an adapter (native) or for any (portable)",
                      "use native or portable");
    if (!device)
      return missing("native target is not here", "webgpu", "there is no adapter",
                     "use portable to make code without one");
    target.chip = "native";
    target.limits = device->limits;
    return target;
  }

  Status checkRunnable(const Target &target, const DeviceInfo &device) const override {
    const std::tuple<const char *, int64_t, int64_t> needs[] = {
        {"bytes of workgroup memory", target.limits.sharedBytes, device.limits.sharedBytes},
        {"threads of a workgroup", target.limits.threadsPerBlock, device.limits.threadsPerBlock},
        {"storage buffers of a stage", target.limits.bindings, device.limits.bindings},
        {"bytes of a binding", target.limits.bindingBytes, device.limits.bindingBytes}};
    for (const auto &[what, needed, there] : needs)
      if (needed > there)
        return missing("code for this target cannot run here", device.name,
                       fmt::format("it may need {} {}, the adapter has {}", needed, what, there),
                       "use --target-cpu native or portable");
    return {};
  }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    return webgpu::supports(kernel, target);
  }

  Expected<ScheduleSpace> scheduleSpace(const KernelAnalysis &kernel, const Target &target,
                                        int64_t workers) const override {
    return webgpu::scheduleSpace(kernel, target);
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry) const override {
    return webgpu::emit(module, kernel, target, entry);
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

std::unique_ptr<CodeGenerator> webgpu::createGenerator() { return std::make_unique<Generator>(); }
