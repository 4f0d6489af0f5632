#include "kernelforge/backend/cuda/CudaDevice.h"

#include "kernelforge/backend/GpuDevice.h"
#include "kernelforge/backend/cuda/BoundProgram.h"

#include <algorithm>

namespace kernelforge {

namespace {

using namespace cuda;

/// Runs one behind another between two events.
class TimedRuns {
public:
  /// `copies` of each of `runs`, in turns. More than one are a graph.
  static Expected<TimedRuns> make(const std::shared_ptr<Context> &context,
                                  const std::shared_ptr<Queue> &queue,
                                  std::vector<CudaBoundProgram *> runs,
                                  std::span<const int64_t> sizes, size_t copies);
  TimedRuns(TimedRuns &&other) noexcept { *this = std::move(other); }
  TimedRuns &operator=(TimedRuns &&other) noexcept {
    std::swap(context, other.context);
    std::swap(runs, other.runs);
    std::swap(copies, other.copies);
    std::swap(begin, other.begin);
    std::swap(end, other.end);
    std::swap(graph, other.graph);
    return *this;
  }
  ~TimedRuns() {
    if (!graph)
      return;
    const Context::Current current(*context);
    context->api().cuGraphExecDestroy(graph);
  }

  size_t programs() const { return runs.size(); }
  Expected<Ticket> submit(Queue &queue, std::span<const int64_t> sizes);
  /// Seconds of one run, when all are over.
  Expected<double> seconds() const;

private:
  TimedRuns() = default;

  std::shared_ptr<Context> context;
  std::vector<CudaBoundProgram *> runs;
  size_t copies = 1;
  std::shared_ptr<Event> begin, end;
  CUgraphExec graph = nullptr;
};

constexpr const char *cannotTime = "run cannot be timed";

Expected<TimedRuns> TimedRuns::make(const std::shared_ptr<Context> &context,
                                    const std::shared_ptr<Queue> &queue,
                                    std::vector<CudaBoundProgram *> runs,
                                    std::span<const int64_t> sizes, size_t copies) {
  TimedRuns made;
  made.context = context;
  made.runs = std::move(runs);
  made.copies = copies;
  {
    const Context::Current current(*context);
    KF_TRY(made.begin, Event::make(context, /*isTimed=*/true));
    KF_TRY(made.end, Event::make(context, /*isTimed=*/true));
  }
  if (made.runs.size() * copies > 1) {
    KF_TRY(made.graph, queue->record([&](CUstream stream) -> Status {
      for (size_t copy = 0; copy < copies; ++copy)
        for (CudaBoundProgram *run : made.runs)
          KF_CHECK(run->record(sizes, stream));
      return {};
    }));
  }
  return made;
}

Expected<Ticket> TimedRuns::submit(Queue &queue, std::span<const int64_t> sizes) {
  if (!graph)
    return runs.front()->submitBetween(sizes, begin->get(), end->get());
  return queue.enqueue([&](CUstream stream) -> Status {
    const Api &api = context->api();
    KF_CHECK(context->check(api.cuEventRecord(begin->get(), stream), cannotTime));
    KF_CHECK(context->check(api.cuGraphLaunch(graph, stream), cannotTime));
    return context->check(api.cuEventRecord(end->get(), stream), cannotTime);
  });
}

Expected<double> TimedRuns::seconds() const {
  float milliseconds = 0;
  const Context::Current current(*context);
  KF_CHECK(context->check(
      context->api().cuEventElapsedTime(&milliseconds, begin->get(), end->get()), cannotTime));
  return double(milliseconds) * 1e-3 / double(runs.size() * copies);
}

class CudaDevice final : public GpuDevice<Context, Queue, LoadedProgram> {
public:
  using GpuDevice::GpuDevice;

  Expected<int64_t> freeBytes() const override { return context->freeBytes(); }
  Expected<std::vector<std::vector<double>>> time(std::span<BoundProgram *const> programs,
                                                  std::span<const int64_t> sizes,
                                                  int rounds) override;

private:
  Expected<double> timeOnce(CudaBoundProgram &program, std::span<const int64_t> sizes);
  Expected<std::vector<TimedRuns>> divide(std::span<CudaBoundProgram *const> bound,
                                          std::span<const int64_t> sizes);
};

Expected<double> CudaDevice::timeOnce(CudaBoundProgram &program, std::span<const int64_t> sizes) {
  KF_TRY(TimedRuns once, TimedRuns::make(context, queue, {&program}, sizes, 1));
  KF_TRY(const Ticket ticket, once.submit(*queue, sizes));
  KF_CHECK(queue->wait(ticket));
  return once.seconds();
}

/// Runs that are short beside what an event costs are timed together and each is given its share:
/// bindings of one program that follow one another, or one of them again and again.
Expected<std::vector<TimedRuns>> CudaDevice::divide(std::span<CudaBoundProgram *const> bound,
                                                    std::span<const int64_t> sizes) {
  constexpr double together = 1e-3; // seconds
  constexpr size_t most = 64;
  std::vector<TimedRuns> pieces;
  for (size_t first = 0, end = 0; first < bound.size(); first = end) {
    for (end = first + 1; end < bound.size() && bound[end]->source() == bound[first]->source();)
      ++end;
    KF_TRY(const double each, timeOnce(*bound[first], sizes));
    const size_t count = std::clamp(size_t(together / std::max(each, 1e-9)), size_t(1), most);
    const size_t copies = end - first == 1 ? count : 1;
    for (size_t at = first; at < end; at += count) {
      std::vector<CudaBoundProgram *> runs(bound.begin() + ptrdiff_t(at),
                                           bound.begin() + ptrdiff_t(std::min(end, at + count)));
      KF_TRY(TimedRuns piece, TimedRuns::make(context, queue, std::move(runs), sizes, copies));
      pieces.push_back(std::move(piece));
    }
  }
  return pieces;
}

Expected<std::vector<std::vector<double>>> CudaDevice::time(std::span<BoundProgram *const> programs,
                                                            std::span<const int64_t> sizes,
                                                            int rounds) {
  KF_TRY(const std::vector<CudaBoundProgram *> bound, boundHere<CudaBoundProgram>(programs));
  std::vector<std::vector<double>> seconds(programs.size());
  KF_CHECK(queue->warmUp());
  KF_TRY(std::vector<TimedRuns> pieces, divide(bound, sizes));
  for (int round = 0; round < rounds; ++round) {
    // All of a round follow each other without a wait of the host's, so that no run is of a GPU
    // that has fallen asleep; a wait after each round keeps what is under way little.
    Ticket last = 0;
    for (TimedRuns &piece : pieces) {
      KF_TRY(last, piece.submit(*queue, sizes));
    }
    KF_CHECK(queue->wait(last));
    auto to = seconds.begin();
    for (const TimedRuns &piece : pieces) {
      KF_TRY(const double each, piece.seconds());
      for (size_t i = 0; i < piece.programs(); ++i)
        (to++)->push_back(each);
    }
  }
  queue->noteTimed();
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
