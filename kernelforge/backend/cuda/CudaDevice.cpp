#include "kernelforge/backend/cuda/CudaDevice.h"

#include "kernelforge/backend/GpuDevice.h"
#include "kernelforge/backend/cuda/BoundProgram.h"

#include <algorithm>

namespace kernelforge {

namespace {

using namespace cuda;

class CudaDevice final : public GpuDevice<Context, Queue, LoadedProgram> {
public:
  using GpuDevice::GpuDevice;

  Expected<std::vector<std::vector<double>>> time(std::span<BoundProgram *const> programs,
                                                  std::span<const int64_t> sizes,
                                                  int rounds) override;
};

Expected<std::vector<std::vector<double>>> CudaDevice::time(std::span<BoundProgram *const> programs,
                                                            std::span<const int64_t> sizes,
                                                            int rounds) {
  KF_TRY(const std::vector<CudaBoundProgram *> bound, boundHere<CudaBoundProgram>(programs));
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
