#include "kernelforge/backend/webgpu/WebGpuDevice.h"
#include "kernelforge/backend/webgpu/BoundProgram.h"

namespace kernelforge {

namespace {

using namespace webgpu;

class WebGpuDevice : public Device {
public:
  WebGpuDevice(std::shared_ptr<Context> context, std::shared_ptr<Transfers> transfers)
      : context(std::move(context)), transfers(std::move(transfers)) {}

  const DeviceInfo &info() const override { return context->info(); }

  Expected<BufferRef> allocate(int64_t bytes, MemoryUse use) override {
    return transfers->allocate(bytes, use);
  }

  Expected<BufferRef> import(std::span<const std::byte> bytes, MemoryUse use,
                             std::shared_ptr<const void> owner) override {
    KF_TRY(BufferRef ref, transfers->allocate(int64_t(bytes.size()), use));
    KF_CHECK(transfers->upload(bytes, ref));
    return ref;
  }

  Expected<Ticket> upload(std::span<const std::byte> from, const BufferRef &to) override {
    return transfers->upload(from, to);
  }
  Expected<Ticket> download(const BufferRef &from, std::span<std::byte> to) override {
    return transfers->download(from, to);
  }
  Status wait(Ticket ticket) override { return transfers->wait(ticket); }

  Expected<std::vector<std::unique_ptr<Executable>>>
  load(std::span<const std::shared_ptr<const Program>> programs) override;

  Expected<std::vector<std::vector<double>>> time(std::span<BoundProgram *const> programs,
                                                  std::span<const int64_t> sizes,
                                                  int rounds) override;

  void lose() { context->lose(); }

private:
  std::shared_ptr<Context> context;
  std::shared_ptr<Transfers> transfers;
};

Expected<std::vector<std::unique_ptr<Executable>>>
WebGpuDevice::load(std::span<const std::shared_ptr<const Program>> programs) {
  for (const auto &program : programs) {
    KF_CHECK(checkProgram(*program));
    KF_CHECK(checkKernels(*context, *program));
  }
  KF_TRY(std::vector<std::vector<Kernel>> kernels, compileKernels(*context, programs));
  std::vector<std::unique_ptr<Executable>> executables;
  for (size_t i = 0; i < programs.size(); ++i)
    executables.push_back(
        std::make_unique<LoadedProgram>(context, transfers, programs[i], std::move(kernels[i])));
  return executables;
}

Expected<std::vector<std::vector<double>>>
WebGpuDevice::time(std::span<BoundProgram *const> programs, std::span<const int64_t> sizes,
                   int rounds) {
  std::vector<std::vector<double>> seconds(programs.size());
  for (int round = 0; round < rounds; ++round)
    for (size_t i = 0; i < programs.size(); ++i) {
      auto *program = dynamic_cast<WebGpuBoundProgram *>(programs[i]);
      if (!program || program->owner() != context.get())
        return unusable("program cannot be timed", info().name, "it is bound on another device");
      KF_TRY(const double one, program->timeWhole(sizes));
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

Status loseWebGpuDevice(Device &device) {
  auto *lost = dynamic_cast<WebGpuDevice *>(&device);
  if (!lost)
    return unusable("device cannot be lost", device.info().name, "it is no WebGPU device");
  lost->lose();
  return {};
}

} // namespace kernelforge
