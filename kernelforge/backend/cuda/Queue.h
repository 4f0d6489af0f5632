// The one stream that a device's work runs in, its tickets, and copies from and to the host.
#pragma once

#include "kernelforge/backend/Device.h"
#include "kernelforge/backend/cuda/Context.h"

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace kernelforge::cuda {

/// Memory of the GPU.
class GpuMemory final : public Memory {
public:
  GpuMemory(std::shared_ptr<Context> context, CUdeviceptr address, int64_t size)
      : context(std::move(context)), start(address), size(size) {}
  ~GpuMemory() override;
  GpuMemory(const GpuMemory &) = delete;
  GpuMemory &operator=(const GpuMemory &) = delete;

  int64_t bytes() const override { return size; }
  CUdeviceptr address() const { return start; }
  const Context *owner() const { return context.get(); }

private:
  std::shared_ptr<Context> context;
  CUdeviceptr start;
  int64_t size;
};

/// Where a buffer lies. Unusable, naming `where`, where it is not memory of this context.
Expected<CUdeviceptr> addressOf(const Context &context, const BufferRef &buffer,
                                std::string_view where);

/// An event, which a stream passes.
class Event {
public:
  static Expected<std::shared_ptr<Event>> make(std::shared_ptr<Context> context, bool isTimed);
  ~Event();
  Event(const Event &) = delete;
  Event &operator=(const Event &) = delete;

  CUevent get() const { return handle; }

private:
  Event(std::shared_ptr<Context> context, CUevent handle)
      : context(std::move(context)), handle(handle) {}
  std::shared_ptr<Context> context;
  CUevent handle;
};

class Queue {
public:
  static Expected<std::shared_ptr<Queue>> make(std::shared_ptr<Context> context);
  ~Queue();
  Queue(const Queue &) = delete;
  Queue &operator=(const Queue &) = delete;

  /// Zeroed memory, the same for every use. Failed where it cannot be had.
  Expected<BufferRef> allocate(int64_t bytes, MemoryUse use);

  Expected<Ticket> upload(std::span<const std::byte> from, const BufferRef &to);
  Expected<Ticket> download(const BufferRef &from, std::span<std::byte> to);
  Status wait(Ticket ticket);

  /// Calls `work` with the stream, while nobody else puts anything into it and the context is
  /// current; a ticket for what it put there.
  Expected<Ticket> enqueue(const std::function<Status(CUstream)> &work);

  /// Keeps the GPU at work until it is as fast as it gets (RampUp), where it was not timed in the
  /// last second: writes to memory of its own.
  Status warmUp();
  /// The GPU was just at work.
  void noteTimed();

  /// A graph of what `work` puts into the stream that it is given, which runs none of it.
  Expected<CUgraphExec> record(const std::function<Status(CUstream)> &work);

private:
  /// Memory of the host that the GPU copies from and to by itself.
  struct Staging {
    void *address = nullptr;
    size_t bytes = 0;
    Ticket busyUntil = 0;
    bool isTaken = false; ///< it has what a download brought until that was copied on
  };
  /// Staging of a large copy's pieces, free when the event is over.
  struct Piece {
    void *address = nullptr;
    std::shared_ptr<Event> event;
  };
  struct Mark {
    Ticket ticket = 0;
    std::shared_ptr<Event> event;
  };
  struct Pending {
    Ticket ticket = 0;
    Staging *staging = nullptr;
    std::span<std::byte> to;
  };

  explicit Queue(std::shared_ptr<Context> context) : context(std::move(context)) {}

  // All of these are called under the mutex, with the context current.
  Expected<Staging *> stagingFor(size_t bytes);
  Status uploadPieces(std::span<const std::byte> from, CUdeviceptr to);
  Expected<Ticket> mark();
  void finish(Ticket ticket);

  std::shared_ptr<Context> context;
  CUstream stream = nullptr;
  CUstream recording = nullptr; ///< what graphs are recorded from; nothing runs in it

  std::mutex ofTimes;
  std::optional<std::chrono::steady_clock::time_point> lastTimed;

  std::mutex mutex;
  Ticket last = 0; ///< given out
  Ticket done = 0; ///< and all before it
  std::deque<Mark> marks;
  std::vector<std::shared_ptr<Event>> spare;
  std::deque<Staging> stagings;
  std::vector<Piece> pieces;
  std::vector<Pending> downloads;
};

} // namespace kernelforge::cuda
