#include "kernelforge/backend/webgpu/WebGpuDevice.h"

#include "kernelforge/backend/GpuDevice.h"
#include "kernelforge/backend/webgpu/BoundProgram.h"

namespace kernelforge {

namespace {

using namespace webgpu;

class WebGpuDevice : public GpuDevice<Context, Transfers, LoadedProgram> {
public:
  using GpuDevice::GpuDevice;

  Expected<std::vector<std::vector<double>>> time(std::span<BoundProgram *const> programs,
                                                  std::span<const int64_t> sizes,
                                                  int rounds) override;

  void lose() { context->lose(); }
};

Expected<std::vector<std::vector<double>>>
WebGpuDevice::time(std::span<BoundProgram *const> programs, std::span<const int64_t> sizes,
                   int rounds) {
  KF_TRY(const std::vector<WebGpuBoundProgram *> bound, boundHere<WebGpuBoundProgram>(programs));
  std::vector<std::vector<double>> seconds(programs.size());
  for (int round = 0; round < rounds; ++round)
    for (size_t i = 0; i < bound.size(); ++i) {
      KF_TRY(const double one, bound[i]->timeWhole(sizes));
      seconds[i].push_back(one);
    }
  return seconds;
}

} // namespace

Expected<std::unique_ptr<Device>> createWebGpuDevice(const WebGpuOptions &options) {
  KF_TRY(std::shared_ptr<const Library> library, Library::open(options.libraryPath));
  KF_TRY(std::shared_ptr<Context> context,
         Context::connect(std::move(library), options.adapterName));
  KF_TRY(std::shared_ptr<Transfers> transfers, Transfers::make(context));
  return std::make_unique<WebGpuDevice>(std::move(context), std::move(transfers));
}

Expected<std::vector<std::string>> webGpuAdapterNames(const WebGpuOptions &options) {
  KF_TRY(std::shared_ptr<const Library> library, Library::open(options.libraryPath));
  return Context::adapterNames(std::move(library));
}

Status loseWebGpuDevice(Device &device) {
  auto *lost = dynamic_cast<WebGpuDevice *>(&device);
  if (!lost)
    return unusable("device cannot be lost", device.info().name, "it is no WebGPU device");
  lost->lose();
  return {};
}

} // namespace kernelforge
