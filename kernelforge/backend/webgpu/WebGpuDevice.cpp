#include "kernelforge/backend/webgpu/WebGpuDevice.h"

#include "kernelforge/backend/GpuDevice.h"
#include "kernelforge/backend/webgpu/BoundProgram.h"
#include "kernelforge/backend/webgpu/WarmUp.h"

#include <algorithm>

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
  // Runs that are short beside what a submit costs are timed together, each is given its share: as
  // many as the first one says take little, so that nothing keeps the device for long.
  constexpr double together = 0.01;
  KF_CHECK(context->warmUp().run(*context));
  size_t most = 1;
  for (int round = 0; round < rounds; ++round)
    for (size_t i = 0; i < bound.size();) {
      size_t count = 1;
      for (size_t limit = std::min(most, bound[i]->mostTogether());
           count < limit && i + count < bound.size(); ++count)
        limit = std::min(limit, bound[i + count]->mostTogether());
      double all = 0;
      if (bound[i]->mostTogether() > 0) {
        KF_TRY(all, WebGpuBoundProgram::timeTogether(std::span(bound).subspan(i, count), sizes));
      } else {
        KF_TRY(all, bound[i]->timeWhole(sizes));
      }
      const double each = all / double(count);
      for (const size_t end = i + count; i < end; ++i)
        seconds[i].push_back(each);
      most = std::max<size_t>(1, size_t(together / each));
    }
  context->warmUp().note();
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
