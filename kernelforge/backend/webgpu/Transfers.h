// Memory of a WebGPU device, and copies between it and the host in order with all that is
// submitted. The API copies whole words of 32 bits; these take any bytes.
#pragma once

#include "kernelforge/backend/Device.h"
#include "kernelforge/backend/webgpu/Context.h"
#include "kernelforge/backend/webgpu/WordMerge.h"

#include <deque>
#include <memory>
#include <span>

namespace kernelforge::webgpu {

/// A storage buffer. It has some bytes more than were asked for, so that the last of them can be
/// bound as a vector of four words.
class BufferMemory : public Memory {
public:
  BufferMemory(std::shared_ptr<const Context> context, Handle<WGPUBuffer> buffer, int64_t bytes)
      : context(std::move(context)), handle(std::move(buffer)), size(bytes) {}
  ~BufferMemory() override;

  int64_t bytes() const override { return size; }
  /// As the API has it.
  uint64_t wholeBytes() const;
  WGPUBuffer buffer() const { return handle.get(); }
  const Context *owner() const { return context.get(); }

private:
  std::shared_ptr<const Context> context;
  Handle<WGPUBuffer> handle;
  int64_t size;
};

/// The memory behind a reference, which must be of this device and hold all of it; `where` names
/// it in an error.
Expected<BufferMemory *> memoryOf(const Context &context, const BufferRef &ref,
                                  std::string_view where);

/// Allocates and copies. May be used from several threads.
class Transfers {
public:
  static Expected<std::unique_ptr<Transfers>> make(const std::shared_ptr<Context> &context);
  ~Transfers();
  Transfers(const Transfers &) = delete;
  Transfers &operator=(const Transfers &) = delete;

  /// As Device::allocate.
  Expected<BufferRef> allocate(int64_t bytes, MemoryUse use);
  /// As Device::upload. Large ones wait now and then, so that the host holds few copies.
  Expected<Ticket> upload(std::span<const std::byte> from, const BufferRef &to);
  /// As Device::download.
  Expected<Ticket> download(const BufferRef &from, std::span<std::byte> to);
  /// As Device::wait. For a download's ticket it waits for no more than that download, so that what
  /// was submitted after it goes on meanwhile.
  Status wait(Ticket ticket);

  /// Submits a copy between pieces of memory that do not overlap, both on a multiple of 4. Called
  /// under the context's lock.
  Status copy(const BufferRef &from, const BufferRef &to, uint64_t bytes);

  /// Whether a download is: nobody has waited for it yet. Called under the context's lock.
  bool areUnderWay() const { return !downloads.empty(); }

  /// The ticket of what was submitted since the last one. Called under the context's lock.
  Ticket issue() { return ++issued; }

private:
  /// A buffer that can be mapped.
  struct Staging {
    Handle<WGPUBuffer> buffer;
    uint64_t bytes = 0;
  };
  /// A copy to the host under way: into a buffer that is then mapped.
  struct Download {
    Ticket ticket = 0;
    uint64_t submission = 0; ///< the number of the copy, for Context::waitUntil()
    Staging staging;
    uint64_t bytes = 0; ///< of the staging buffer that are copied to
    uint64_t skip = 0;  ///< bytes of it before the first that is wanted
    std::span<std::byte> to;
    /// Shared with a callback that may come after this is gone. 0: not yet.
    std::shared_ptr<std::atomic<int>> status = std::make_shared<std::atomic<int>>(0);
  };

  explicit Transfers(std::shared_ptr<Context> context) : context(std::move(context)) {}
  Expected<Staging> stagingFor(uint64_t bytes);
  Status finish(Download &download);

  std::shared_ptr<Context> context;
  std::unique_ptr<WordMerge> merge;
  std::deque<std::shared_ptr<Download>> downloads;
  std::deque<Staging> idle;
  /// Held while downloads are finished, and taken before the context's lock: who waits for one that
  /// another thread finishes waits for that thread.
  std::mutex finishing;
  Ticket issued = 0, completed = 0;
};

} // namespace kernelforge::webgpu
