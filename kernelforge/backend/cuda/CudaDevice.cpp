#include "kernelforge/backend/cuda/CudaDevice.h"

#include "kernelforge/backend/cuda/BoundProgram.h"

#include <algorithm>

namespace kernelforge {

namespace {

using namespace cuda;

class CudaDevice final : public Device {
public:
  CudaDevice(std::shared_ptr<Context> context, std::shared_ptr<Queue> queue)
      : context(std::move(context)), queue(std::move(queue)) {}

  const DeviceInfo &info() const override { return context->info(); }

  Expected<BufferRef> allocate(int64_t bytes, MemoryUse use) override {
    return queue->allocate(bytes);
  }

  Expected<BufferRef> import(std::span<const std::byte> bytes, MemoryUse use,
                             std::shared_ptr<const void> owner) override {
    KF_TRY(BufferRef ref, queue->allocate(int64_t(bytes.size())));
    KF_CHECK(queue->upload(bytes, ref));
    return ref;
  }

  Expected<Ticket> upload(std::span<const std::byte> from, const BufferRef &to) override {
    return queue->upload(from, to);
  }
  Expected<Ticket> download(const BufferRef &from, std::span<std::byte> to) override {
    return queue->download(from, to);
  }
  Status wait(Ticket ticket) override { return queue->wait(ticket); }

  Expected<std::vector<std::unique_ptr<Executable>>>
  load(std::span<const std::shared_ptr<const Program>> programs) override;

  Expected<std::vector<std::vector<double>>> time(std::span<BoundProgram *const> programs,
                                                  std::span<const int64_t> sizes,
                                                  int rounds) override;

private:
  std::shared_ptr<Context> context;
  std::shared_ptr<Queue> queue;
};

Expected<std::vector<std::unique_ptr<Executable>>>
CudaDevice::load(std::span<const std::shared_ptr<const Program>> programs) {
  for (const auto &program : programs) {
    KF_CHECK(checkProgram(*program));
    KF_CHECK(checkKernels(*context, *program));
  }
  KF_TRY(std::vector<std::vector<Kernel>> kernels, loadKernels(context, programs));
  std::vector<std::unique_ptr<Executable>> executables;
  for (size_t i = 0; i < programs.size(); ++i)
    executables.push_back(
        std::make_unique<LoadedProgram>(context, queue, programs[i], std::move(kernels[i])));
  return executables;
}

Expected<std::vector<std::vector<double>>> CudaDevice::time(std::span<BoundProgram *const> programs,
                                                            std::span<const int64_t> sizes,
                                                            int rounds) {
  std::vector<CudaBoundProgram *> bound;
  for (BoundProgram *each : programs) {
    bound.push_back(dynamic_cast<CudaBoundProgram *>(each));
    if (!bound.back() || bound.back()->owner() != context.get())
      return unusable("program cannot be timed", info().name, "it is bound on another device");
  }
  std::vector<std::vector<double>> seconds(programs.size());
  // Two events a run. All programs of a round follow each other without a wait of the host's, so
  // that no run is of a GPU that has fallen asleep; a wait after each round keeps events few.
  std::vector<std::shared_ptr<Event>> events;
  for (size_t i = 0; i < 2 * programs.size(); ++i) {
    const Context::Current current(*context);
    KF_TRY(std::shared_ptr<Event> event, Event::make(context, /*isTimed=*/true));
    events.push_back(std::move(event));
  }
  for (int round = 0; round < rounds; ++round) {
    Ticket last = 0;
    for (size_t i = 0; i < bound.size(); ++i) {
      KF_TRY(last, bound[i]->submitBetween(sizes, events[2 * i]->get(), events[2 * i + 1]->get()));
    }
    KF_CHECK(queue->wait(last));
    const Context::Current current(*context);
    for (size_t i = 0; i < bound.size(); ++i) {
      float milliseconds = 0;
      KF_CHECK(context->check(context->api().cuEventElapsedTime(&milliseconds, events[2 * i]->get(),
                                                                events[2 * i + 1]->get()),
                              "run cannot be timed"));
      seconds[i].push_back(double(milliseconds) * 1e-3);
    }
  }
  return seconds;
}

} // namespace

Expected<std::unique_ptr<Device>> createCudaDevice(const CudaOptions &options) {
  KF_TRY(std::shared_ptr<const Library> library, Library::open(options.libraryPath));
  KF_TRY(std::shared_ptr<Context> context, Context::make(std::move(library), options.ordinal));
  KF_TRY(std::shared_ptr<Queue> queue, Queue::make(context));
  return std::make_unique<CudaDevice>(std::move(context), std::move(queue));
}

} // namespace kernelforge
