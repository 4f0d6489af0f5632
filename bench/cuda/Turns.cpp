#include "Turns.h"

#include "kernelforge/backend/cuda/Library.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>
#include <thread>

using namespace kernelforge;
using namespace kernelforge::bench;
using namespace kernelforge::cuda;

using Clock = std::chrono::steady_clock;

//===--------------------------------------------------------------------------------------------===
// The GPU
//===--------------------------------------------------------------------------------------------===

Expected<Gpu> Gpu::open(const std::string &library) {
  Gpu made;
  KF_TRY(std::shared_ptr<const Library> driver, Library::open(library));
  KF_TRY(made.gpu, Context::make(std::move(driver), 0));
  KF_TRY(made.stream, Queue::make(made.gpu));
  return made;
}

Expected<BufferRef> Gpu::allocatePoisoned(int64_t bytes) const {
  KF_TRY(BufferRef buffer, stream->allocate(bytes, MemoryUse::Transfer));
  KF_CHECK(poison(buffer));
  return buffer;
}

Status Gpu::poison(const BufferRef &buffer) const {
  KF_TRY(const CUdeviceptr address, addressOf(*gpu, buffer, "poison"));
  KF_TRY(const Ticket ticket, stream->enqueue([&](CUstream to) {
    return gpu->check(gpu->api().cuMemsetD8Async(address, 0xff, size_t(buffer.bytes), to),
                      "memory cannot be filled");
  }));
  return stream->wait(ticket);
}

Expected<BufferRef> Gpu::upload(std::span<const std::byte> bytes) const {
  KF_TRY(BufferRef buffer, stream->allocate(int64_t(bytes.size()), MemoryUse::Weights));
  KF_TRY(const Ticket ticket, stream->upload(bytes, buffer));
  KF_CHECK(stream->wait(ticket));
  return buffer;
}

Status Gpu::download(const BufferRef &from, std::span<std::byte> to) const {
  KF_TRY(const Ticket ticket, stream->download(from, to));
  return stream->wait(ticket);
}

//===--------------------------------------------------------------------------------------------===
// Sides
//===--------------------------------------------------------------------------------------------===

namespace {

class OurSide final : public Side {
public:
  using Side::Side;
  Expected<Ticket> submit(CUevent first, CUevent last) override {
    return first ? bound->submitBetween(sizes, first, last) : bound->submit(sizes, {});
  }

  std::shared_ptr<const Program> program;
  std::vector<std::vector<Kernel>> kernels;
  std::vector<int64_t> sizes;
  std::unique_ptr<CudaBoundProgram> bound;
};

class RecordedSide final : public Side {
public:
  RecordedSide(std::string name, const Gpu &gpu, CUgraphExec graph)
      : Side(std::move(name)), gpu(gpu), graph(graph) {}
  ~RecordedSide() override {
    const Context::Current current(gpu.context());
    gpu.context().api().cuGraphExecDestroy(graph);
  }
  Expected<Ticket> submit(CUevent first, CUevent last) override {
    const Context &context = gpu.context();
    return gpu.queue()->enqueue([&](CUstream stream) -> Status {
      constexpr const char *what = "run cannot be timed";
      if (first)
        KF_CHECK(context.check(context.api().cuEventRecord(first, stream), what, name()));
      KF_CHECK(context.check(context.api().cuGraphLaunch(graph, stream), what, name()));
      return last ? context.check(context.api().cuEventRecord(last, stream), what, name())
                  : Status();
    });
  }

private:
  Gpu gpu;
  CUgraphExec graph;
};

} // namespace

Expected<std::unique_ptr<Side>> bench::makeOurSide(const Gpu &gpu, std::string name,
                                                   Program program, std::vector<int64_t> sizes,
                                                   ProgramBuffers buffers) {
  auto side = std::make_unique<OurSide>(std::move(name));
  KF_CHECK(checkProgram(program));
  KF_CHECK(checkKernels(gpu.context(), program));
  side->program = std::make_shared<const Program>(std::move(program));
  KF_TRY(side->kernels, loadKernels(gpu.shared(), std::span(&side->program, 1)));
  side->sizes = std::move(sizes);
  KF_TRY(buffers.arena, gpu.queue()->allocate(side->program->arenaBytes, MemoryUse::Arena));
  KF_CHECK(checkBuffers(*side->program, buffers, gpu.context().info().limits.bufferAlignment));
  KF_TRY(side->bound, CudaBoundProgram::make(gpu.shared(), gpu.queue(), side->program,
                                             side->kernels.front(), std::move(buffers)));
  return side;
}

Expected<std::unique_ptr<Side>>
bench::makeRecordedSide(const Gpu &gpu, std::string name,
                        const std::function<Status(CUstream)> &work) {
  KF_TRY(CUgraphExec graph, gpu.queue()->record(work));
  return std::make_unique<RecordedSide>(std::move(name), gpu, graph);
}

//===--------------------------------------------------------------------------------------------===
// Turns
//===--------------------------------------------------------------------------------------------===

/// How long a GPU is kept at work before it counts as hot, a side before its sample, and how long
/// one rests.
static constexpr auto heating = std::chrono::milliseconds(300),
                      heatingOne = std::chrono::milliseconds(15),
                      resting = std::chrono::milliseconds(12);
/// What waking writes: some 20 us of work.
static constexpr int64_t wakingBytes = int64_t(64) << 20;

std::string_view bench::nameOf(Pace pace) {
  return pace == Pace::BackToBack ? "back-to-back" : "idle-gaps";
}

Expected<Turns> Turns::make(const Gpu &gpu) {
  Turns turns(gpu);
  const Context::Current current(gpu.context());
  KF_TRY(turns.begin, Event::make(gpu.shared(), /*isTimed=*/true));
  KF_TRY(turns.end, Event::make(gpu.shared(), /*isTimed=*/true));
  KF_TRY(turns.scratch, gpu.queue()->allocate(wakingBytes, MemoryUse::Arena));
  return turns;
}

Expected<double> Turns::take(Side &side) {
  KF_TRY(const Ticket ticket, side.submit(begin->get(), end->get()));
  KF_CHECK(gpu.queue()->wait(ticket));
  const Context::Current current(gpu.context());
  float milliseconds = 0;
  KF_CHECK(gpu.context().check(
      gpu.context().api().cuEventElapsedTime(&milliseconds, begin->get(), end->get()),
      "run cannot be timed", side.name()));
  return double(milliseconds) * 1e-3;
}

Status Turns::wake() {
  std::this_thread::sleep_for(resting);
  KF_TRY(const CUdeviceptr address, addressOf(gpu.context(), scratch, "waking"));
  KF_CHECK(gpu.queue()->enqueue([&](CUstream stream) {
    return gpu.context().check(
        gpu.context().api().cuMemsetD8Async(address, 0, size_t(wakingBytes), stream),
        "memory cannot be filled");
  }));
  return {};
}

Status Turns::heat(std::span<Side *const> sides) {
  for (const auto until = Clock::now() + heating; Clock::now() < until;)
    for (Side *side : sides)
      KF_CHECK(take(*side));
  return {};
}

Expected<double> Turns::sample(Side &side, Pace pace) {
  if (pace == Pace::IdleGaps) {
    KF_CHECK(wake());
  } else {
    for (const auto until = Clock::now() + heatingOne; Clock::now() < until;)
      KF_CHECK(take(side));
  }
  return take(side);
}

Expected<std::vector<std::vector<double>>> Turns::time(std::span<Side *const> sides, Pace pace,
                                                       int rounds, uint64_t seed) {
  std::vector<std::vector<double>> seconds(sides.size());
  std::vector<size_t> order(sides.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::mt19937_64 random(seed);
  for (Side *side : sides) // the first run of a graph brings it to the GPU
    KF_CHECK(take(*side));
  if (pace == Pace::BackToBack)
    KF_CHECK(heat(sides));
  for (int round = 0; round < rounds; ++round) {
    std::ranges::shuffle(order, random);
    for (size_t each : order) {
      if (pace == Pace::IdleGaps)
        KF_CHECK(wake());
      KF_TRY(const double taken, take(*sides[each]));
      seconds[each].push_back(taken);
    }
  }
  return seconds;
}
