#include "kernelforge/backend/cuda/Queue.h"

#include "kernelforge/backend/RampUp.h"
#include "kernelforge/codegen/cuda/Convention.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <thread>
#include <utility>

namespace kernelforge::cuda {

namespace {

/// Copies go through memory that the GPU reaches by itself, so that nobody waits for them; to the
/// GPU in pieces of up to so many bytes. Larger ones from the GPU are few, and wait.
constexpr size_t mostStaged = size_t(4) << 20;
/// Threads that bring a weight there; pages of a mapped file are read by whoever touches them.
constexpr unsigned mostCopiers = 8;
constexpr size_t leastStaging = size_t(64) << 10;
/// Memory for them is made anew up to so much; then who copies waits for some that is in use.
constexpr size_t mostStagings = size_t(64) << 20;

constexpr const char *cannotCopy = "bytes cannot be copied";

} // namespace

GpuMemory::~GpuMemory() {
  const Context::Current current(*context);
  context->api().cuMemFree(start);
}

Expected<CUdeviceptr> addressOf(const Context &context, const BufferRef &buffer,
                                std::string_view where) {
  const auto *memory = dynamic_cast<const GpuMemory *>(buffer.memory.get());
  if (!memory || memory->owner() != &context)
    return unusable("buffer is refused", std::string(where),
                    buffer.memory ? "it is memory of another device" : "nothing is bound");
  return memory->address() + CUdeviceptr(buffer.offset);
}

Expected<std::shared_ptr<Event>> Event::make(std::shared_ptr<Context> context, bool isTimed) {
  CUevent handle = nullptr;
  KF_CHECK(context->check(
      context->api().cuEventCreate(&handle, isTimed ? 0 : number::eventDisableTiming),
      "event cannot be made"));
  return std::shared_ptr<Event>(new Event(std::move(context), handle));
}

Event::~Event() {
  const Context::Current current(*context);
  context->api().cuEventDestroy(handle);
}

Expected<std::shared_ptr<Queue>> Queue::make(std::shared_ptr<Context> context) {
  std::shared_ptr<Queue> queue(new Queue(context));
  const Context::Current current(*context);
  for (CUstream *stream : {&queue->stream, &queue->recording})
    KF_CHECK(context->check(context->api().cuStreamCreate(stream, number::streamNonBlocking),
                            "stream cannot be made"));
  return queue;
}

Queue::~Queue() {
  const Context::Current current(*context);
  const Api &api = context->api();
  if (stream)
    api.cuStreamSynchronize(stream);
  for (const Staging &staging : stagings)
    api.cuMemFreeHost(staging.address);
  for (const Piece &piece : pieces)
    api.cuMemFreeHost(piece.address);
  pieces.clear();
  for (CUstream each : {stream, recording})
    if (each)
      api.cuStreamDestroy(each);
}

Expected<BufferRef> Queue::allocate(int64_t bytes, MemoryUse use) {
  KF_CHECK(context->alive());
  if (bytes < 0 || bytes > context->info().limits.memoryBytes)
    return unusable("memory is refused", context->info().name,
                    fmt::format("{} bytes are asked for where it has {}", bytes,
                                context->info().limits.memoryBytes));
  // Loads may go on to the end of 16 bytes; what has no elements has an address, too.
  const size_t whole =
      (size_t(bytes) + bufferAlignment) / size_t(bufferAlignment) * size_t(bufferAlignment);
  CUdeviceptr address = 0;
  {
    const Context::Current current(*context);
    KF_CHECK(context->check(context->api().cuMemAlloc(&address, whole),
                            fmt::format("{} bytes of memory cannot be had", bytes)));
  }
  auto memory = std::make_shared<GpuMemory>(context, address, bytes);
  KF_CHECK(enqueue([&](CUstream to) {
    return context->check(context->api().cuMemsetD8Async(address, 0, whole, to),
                          "memory cannot be zeroed");
  }));
  return BufferRef{std::move(memory), 0, bytes};
}

Expected<Queue::Staging *> Queue::stagingFor(size_t bytes) {
  size_t all = 0;
  Staging *next = nullptr; // to be free
  for (Staging &staging : stagings) {
    all += staging.bytes;
    if (staging.isTaken || staging.bytes < bytes)
      continue;
    if (staging.busyUntil <= done)
      return &staging;
    if (!next || staging.busyUntil < next->busyUntil)
      next = &staging;
  }
  if (next && all >= mostStagings) {
    const auto mark = std::ranges::find_if(
        marks, [&](const Mark &mark) { return mark.ticket >= next->busyUntil; });
    if (mark != marks.end()) {
      KF_CHECK(context->check(context->api().cuEventSynchronize(mark->event->get()), cannotCopy));
      finish(mark->ticket);
      return next;
    }
  }
  Staging made;
  made.bytes = std::bit_ceil(std::max(bytes, leastStaging));
  KF_CHECK(context->check(context->api().cuMemHostAlloc(&made.address, made.bytes, 0),
                          "memory of the host for copies cannot be had"));
  return &stagings.emplace_back(made);
}

Expected<Ticket> Queue::mark() {
  Mark made;
  if (spare.empty()) {
    KF_TRY(made.event, Event::make(context, /*isTimed=*/false));
  } else {
    made.event = std::move(spare.back());
    spare.pop_back();
  }
  KF_CHECK(context->check(context->api().cuEventRecord(made.event->get(), stream),
                          "work cannot be submitted"));
  made.ticket = ++last;
  marks.push_back(std::move(made));
  return last;
}

void Queue::finish(Ticket ticket) {
  done = std::max(done, ticket);
  for (; !marks.empty() && marks.front().ticket <= done; marks.pop_front())
    // Somebody else may still wait for it: then it goes with the last of them.
    if (marks.front().event.use_count() == 1)
      spare.push_back(std::move(marks.front().event));
  std::erase_if(downloads, [&](const Pending &pending) {
    if (pending.ticket > done)
      return false;
    std::memcpy(pending.to.data(), pending.staging->address, pending.to.size());
    pending.staging->isTaken = false;
    return true;
  });
}

/// Each thread has two pieces of staging: it fills one while the GPU copies from the other.
Status Queue::uploadPieces(std::span<const std::byte> from, CUdeviceptr to) {
  const size_t count = (from.size() + mostStaged - 1) / mostStaged;
  const size_t threads =
      std::min<size_t>(count, std::clamp(std::thread::hardware_concurrency(), 1U, mostCopiers));
  while (pieces.size() < 2 * threads) {
    Piece made;
    KF_TRY(made.event, Event::make(context, /*isTimed=*/false));
    KF_CHECK(context->check(context->api().cuMemHostAlloc(&made.address, mostStaged, 0),
                            "memory of the host for copies cannot be had"));
    pieces.push_back(std::move(made));
  }
  std::atomic<size_t> next = 0;
  std::vector<Status> statuses(threads);
  auto copy = [&](size_t thread) -> Status {
    const Context::Current current(*context);
    const Api &api = context->api();
    size_t turn = 0;
    for (size_t i = next++; i < count; i = next++) {
      const Piece &piece = pieces[2 * thread + turn++ % 2];
      KF_CHECK(context->check(api.cuEventSynchronize(piece.event->get()), cannotCopy));
      const std::span<const std::byte> part =
          from.subspan(i * mostStaged, std::min(mostStaged, from.size() - i * mostStaged));
      std::memcpy(piece.address, part.data(), part.size());
      KF_CHECK(context->check(
          api.cuMemcpyHtoDAsync(to + i * mostStaged, piece.address, part.size(), stream),
          cannotCopy));
      KF_CHECK(context->check(api.cuEventRecord(piece.event->get(), stream), cannotCopy));
    }
    return {};
  };
  {
    std::vector<std::jthread> others;
    for (size_t thread = 1; thread < threads; ++thread)
      others.emplace_back([&, thread] { statuses[thread] = copy(thread); });
    statuses[0] = copy(0);
  }
  for (Status &status : statuses)
    KF_CHECK(std::move(status));
  return {};
}

Expected<Ticket> Queue::upload(std::span<const std::byte> from, const BufferRef &to) {
  KF_CHECK(context->alive());
  KF_CHECK(checkTransfer(from.size(), to));
  KF_TRY(const CUdeviceptr address, addressOf(*context, to, "upload"));
  const std::lock_guard guard(mutex);
  if (from.empty())
    return last;
  const Context::Current current(*context);
  if (from.size() > mostStaged) {
    KF_CHECK(uploadPieces(from, address));
    return mark();
  }
  KF_TRY(Staging *const staging, stagingFor(from.size()));
  std::memcpy(staging->address, from.data(), from.size());
  staging->busyUntil = last + 1; // the next ticket there is lies behind the copy, come what may
  KF_CHECK(context->check(
      context->api().cuMemcpyHtoDAsync(address, staging->address, from.size(), stream),
      cannotCopy));
  return mark();
}

Expected<Ticket> Queue::download(const BufferRef &from, std::span<std::byte> to) {
  KF_CHECK(context->alive());
  KF_CHECK(checkTransfer(to.size(), from));
  KF_TRY(const CUdeviceptr address, addressOf(*context, from, "download"));
  const std::lock_guard guard(mutex);
  if (to.empty())
    return last;
  const Context::Current current(*context);
  void *target = to.data();
  Staging *staging = nullptr;
  if (to.size() <= mostStaged) {
    KF_TRY(staging, stagingFor(to.size()));
    staging->busyUntil = last + 1;
    target = staging->address;
  }
  KF_CHECK(context->check(context->api().cuMemcpyDtoHAsync(target, address, to.size(), stream),
                          cannotCopy));
  KF_TRY(const Ticket ticket, mark());
  if (staging) {
    staging->isTaken = true;
    downloads.push_back({ticket, staging, to});
  }
  return ticket;
}

Status Queue::wait(Ticket ticket) {
  KF_CHECK(context->alive());
  const Context::Current current(*context);
  std::shared_ptr<Event> event;
  Ticket reached = 0;
  {
    const std::lock_guard guard(mutex);
    if (ticket <= done)
      return {};
    const auto found =
        std::ranges::find_if(marks, [&](const Mark &mark) { return mark.ticket >= ticket; });
    if (found == marks.end())
      return unusable("work cannot be waited for", context->info().name,
                      fmt::format("there is no ticket {}", ticket));
    event = found->event;
    reached = found->ticket;
  }
  KF_CHECK(context->check(context->api().cuEventSynchronize(event->get()), "work failed"));
  const std::lock_guard guard(mutex);
  event.reset();
  finish(reached);
  return {};
}

Expected<Ticket> Queue::enqueue(const std::function<Status(CUstream)> &work) {
  KF_CHECK(context->alive());
  const std::lock_guard guard(mutex);
  const Context::Current current(*context);
  const Status status = work(stream);
  // What was put there before an error can be waited for as well.
  Expected<Ticket> ticket = mark();
  KF_CHECK(status);
  return ticket;
}

Status Queue::warmUp() {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t bytes = int64_t(64) << 20;
  constexpr int turns = 16;
  {
    const std::lock_guard guard(ofTimes);
    if (lastTimed && Clock::now() - *lastTimed < RampUp::idle)
      return {};
  }
  KF_TRY(const BufferRef scratch, allocate(bytes, MemoryUse::Arena));
  KF_TRY(const CUdeviceptr address, addressOf(*context, scratch, "warm-up"));
  const auto begin = Clock::now();
  for (RampUp ramp; !ramp.isOver();) {
    const auto start = Clock::now();
    KF_TRY(const Ticket ticket, enqueue([&](CUstream to) -> Status {
             for (int i = 0; i < turns; ++i)
               KF_CHECK(
                   context->check(context->api().cuMemsetD8Async(address, 0, size_t(bytes), to),
                                  "GPU cannot be warmed up"));
             return {};
           }));
    KF_CHECK(wait(ticket));
    const auto end = Clock::now();
    ramp.add(end - begin, end - start);
  }
  noteTimed();
  return {};
}

void Queue::noteTimed() {
  const std::lock_guard guard(ofTimes);
  lastTimed = std::chrono::steady_clock::now();
}

Expected<CUgraphExec> Queue::record(const std::function<Status(CUstream)> &work) {
  KF_CHECK(context->alive());
  const std::lock_guard guard(mutex);
  const Context::Current current(*context);
  const Api &api = context->api();
  constexpr const char *cannotRecord = "run cannot be recorded";
  KF_CHECK(context->check(api.cuStreamBeginCapture(recording, number::captureThreadLocal),
                          cannotRecord));
  const Status status = work(recording);
  // It is ended whatever happened, so that the stream can be used again.
  CUgraph graph = nullptr;
  const CUresult ended = api.cuStreamEndCapture(recording, &graph);
  CUgraphExec exec = nullptr;
  const CUresult made =
      status && ended == number::success ? api.cuGraphInstantiate(&exec, graph, 0) : ended;
  if (graph)
    api.cuGraphDestroy(graph);
  KF_CHECK(status);
  KF_CHECK(context->check(made, cannotRecord));
  return exec;
}

} // namespace kernelforge::cuda
