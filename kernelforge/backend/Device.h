// The boundary to hardware: a device takes programs, binds them to memory and runs them. Nobody
// above it asks which one it is.
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/codegen/Resources.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/support/Error.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace kernelforge {

/// Memory of a device, freed with its last reference.
class Memory {
public:
  virtual ~Memory() = default;

  virtual int64_t bytes() const = 0;
  /// Where the host reaches it; null where it cannot.
  virtual std::byte *hostAddress() const { return nullptr; }
};

/// A piece of a device's memory.
struct BufferRef {
  std::shared_ptr<Memory> memory; ///< null: nothing is bound
  int64_t offset = 0;
  int64_t bytes = 0;

  /// Where the host reaches it; null where it cannot.
  std::byte *hostAddress() const {
    std::byte *address = memory ? memory->hostAddress() : nullptr;
    return address ? address + offset : nullptr;
  }
};

/// What memory is for.
enum class MemoryUse {
  Weights,  ///< written once, then read only
  Cache,    ///< kept between runs
  Arena,    ///< intermediates
  Transfer, ///< inputs and results, which the host writes and reads
};

/// Work that a device was given. Tickets of a device count up; 0 is over already. Whoever waits for
/// one waits for all before it, too.
using Ticket = uint64_t;

/// What a bound program works on. `arguments` in the order of Program::arguments and `results` in
/// that of Program::results, each with the bytes that the buffer has at the largest sizes it will
/// be run with; `arena` with Program::arenaBytes, which programs that do not run at once may share.
struct ProgramBuffers {
  std::vector<BufferRef> arguments;
  std::vector<BufferRef> results;
  BufferRef arena;
};

struct SubmitOptions {
  /// Where given, a true value ends the run between two launches, or at least before the next
  /// submit, with ErrorKind::Interrupted.
  const std::atomic<bool> *cancel = nullptr;
};

/// A program whose buffers are bound. What is bound does not move. Used by one thread at a time.
class BoundProgram {
public:
  virtual ~BoundProgram() = default;

  /// Runs all launches in order, after all that was submitted before. `sizes` in the order of
  /// Program::sizes. Unusable where a size is out of the range that the program was compiled for,
  /// or a buffer is too small for it. A device that runs on the host's threads is done when this
  /// returns.
  virtual Expected<Ticket> submit(std::span<const int64_t> sizes,
                                  const SubmitOptions &options = {}) = 0;

  /// The same, to the end, and the nanoseconds of each launch by the device's clock, by index in
  /// Program::launches.
  virtual Expected<std::vector<int64_t>> runTimed(std::span<const int64_t> sizes,
                                                  const SubmitOptions &options = {}) = 0;
};

/// A program whose code is loaded.
class Executable {
public:
  virtual ~Executable() = default;

  virtual const Program &program() const = 0;
  /// What the device says of the finished code, by index in Program::artifacts.
  virtual std::vector<KernelResources> resources() const = 0;
  /// Bytes that the device holds for running it, besides what is bound.
  virtual int64_t scratchBytes() const { return 0; }

  /// Unusable where a buffer is missing, too small for the least sizes, not on the device's
  /// alignment, or of another device. The executable must outlive what is bound.
  virtual Expected<std::unique_ptr<BoundProgram>> bind(ProgramBuffers buffers) = 0;
};

/// A device with its memory and its queue. May be used from several threads. When it was lost, all
/// calls fail with ErrorKind::Lost, its memory is gone, and another one is to be made.
class Device {
public:
  virtual ~Device() = default;

  virtual const DeviceInfo &info() const = 0;

  /// Bytes that can still be allocated, as far as the device knows: what its driver says is free,
  /// else all that it has; 0 where it does not know that either.
  virtual Expected<int64_t> freeBytes() const { return info().limits.memoryBytes; }

  /// Zeroed memory, aligned to DeviceInfo::limits.bufferAlignment. Unusable where it is beyond a
  /// limit of the device, Failed where it cannot be had.
  virtual Expected<BufferRef> allocate(int64_t bytes, MemoryUse use) = 0;

  /// Memory with the bytes of the host's. Where DeviceInfo::sharesHostMemory, these very bytes:
  /// whoever gives them keeps them until `owner`, which the reference holds, is let go of; a null
  /// owner promises that they stay.
  virtual Expected<BufferRef> import(std::span<const std::byte> bytes, MemoryUse use,
                                     std::shared_ptr<const void> owner) = 0;

  /// Copies from and to the host, in order with what is submitted. `to` must stay until the ticket
  /// is over; `from` may go at once. Unusable where the sizes differ.
  virtual Expected<Ticket> upload(std::span<const std::byte> from, const BufferRef &to) = 0;
  virtual Expected<Ticket> download(const BufferRef &from, std::span<std::byte> to) = 0;

  /// Makes programs ready, all at once, so that their code is finished in parallel. Unusable where
  /// one is inconsistent (checkProgram), Failed where its code is refused; Missing what it needs
  /// and the device has not.
  virtual Expected<std::vector<std::unique_ptr<Executable>>>
  load(std::span<const std::shared_ptr<const Program>> programs) = 0;

  /// Until `ticket` and all before it are over. Errors of that work come out here.
  virtual Status wait(Ticket ticket) = 0;

  /// Seconds of whole runs by the device's clock: each of `programs` in turns, `rounds` times, by
  /// program and round. Several bindings of a program rotate its data past the caches.
  virtual Expected<std::vector<std::vector<double>>>
  time(std::span<BoundProgram *const> programs, std::span<const int64_t> sizes, int rounds) = 0;
};

/// Unusable where `buffers` are not those of a program: as many as it has, each within its memory
/// and at a multiple of `alignment`, an arena that is large enough.
Status checkBuffers(const Program &program, const ProgramBuffers &buffers, int64_t alignment);

/// Unusable where a run cannot be: another number of sizes, one out of its range, a buffer that is
/// not bound or too small at these sizes. `buffers` have passed checkBuffers.
Status checkRun(const Program &program, const ProgramBuffers &buffers,
                std::span<const int64_t> sizes);

/// Unusable where a copy between the host's bytes and a buffer is not of equal sizes, or the buffer
/// does not lie within its memory.
Status checkTransfer(uint64_t hostBytes, const BufferRef &buffer);

} // namespace kernelforge
