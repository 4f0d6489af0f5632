// A GPU on which several sides compute the same, and their times in turns: ours as bound programs,
// those of libraries as what they put into the same stream.
#pragma once

#include "kernelforge/backend/cuda/BoundProgram.h"

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace kernelforge::bench {

/// Bytes of all sets of operands together, beyond which no cache reaches, and sets at most.
inline constexpr double beyondCache = 300e6;
inline constexpr int mostSets = 64;
/// Runs of a sample at most.
inline constexpr int mostRuns = 400;

/// One GPU with the stream that all sides run in.
class Gpu {
public:
  /// Missing where there is no driver or no GPU. `library` is the driver's file; empty: the one
  /// that the system finds.
  static Expected<Gpu> open(const std::string &library);

  const cuda::Context &context() const { return *gpu; }
  std::shared_ptr<cuda::Context> shared() const { return gpu; }
  std::shared_ptr<cuda::Queue> queue() const { return stream; }

  /// Memory that begins as NaN, whatever type of float is in it.
  Expected<BufferRef> allocatePoisoned(int64_t bytes) const;
  Status poison(const BufferRef &buffer) const;
  Expected<BufferRef> upload(std::span<const std::byte> bytes) const;
  Status download(const BufferRef &from, std::span<std::byte> to) const;

private:
  std::shared_ptr<cuda::Context> gpu;
  std::shared_ptr<cuda::Queue> stream;
};

/// One of those that compute the same: a sample of it is a number of runs.
class Side {
public:
  explicit Side(std::string name) : label(std::move(name)) {}
  virtual ~Side() = default;
  Side(const Side &) = delete;
  Side &operator=(const Side &) = delete;

  const std::string &name() const { return label; }
  /// Submits a sample between two events, which may be null.
  virtual Expected<Ticket> submit(cuda::CUevent begin, cuda::CUevent end) = 0;

private:
  std::string label;
};

/// A program of ours that repeated() made, with its code. Unusable where buffers do not fit.
Expected<std::unique_ptr<Side>> makeOurSide(const Gpu &gpu, std::string name, Program program,
                                            std::vector<int64_t> sizes, ProgramBuffers buffers);

/// What `work` puts into the stream that it is given, recorded once and replayed.
Expected<std::unique_ptr<Side>> makeRecordedSide(const Gpu &gpu, std::string name,
                                                 const std::function<Status(cuda::CUstream)> &work);

/// How samples follow one another.
enum class Pace {
  BackToBack, ///< one behind another on a GPU that has been at work: it is hot, and may be
              ///< throttled
  IdleGaps,   ///< each after a pause, and work that wakes the GPU
};

/// "back-to-back", "idle-gaps".
std::string_view nameOf(Pace pace);

/// Seconds of samples, by side and round: a round has one of each side, in a new random order.
class Turns {
public:
  static Expected<Turns> make(const Gpu &gpu);

  Expected<std::vector<std::vector<double>>> time(std::span<Side *const> sides, Pace pace,
                                                  int rounds, uint64_t seed);
  /// One sample as the pace has it: back to back it stands behind samples of the same side.
  Expected<double> sample(Side &side, Pace pace);

private:
  explicit Turns(Gpu gpu) : gpu(std::move(gpu)) {}
  Status heat(std::span<Side *const> sides);
  Status wake();
  Expected<double> take(Side &side);

  Gpu gpu;
  std::shared_ptr<cuda::Event> begin, end;
  BufferRef scratch; ///< which waking writes
};

} // namespace kernelforge::bench
