// What every backend does: take a program, run it on buffers. Callers choose a backend and never
// ask which one they have.
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/support/Error.h"

#include <atomic>
#include <memory>
#include <span>
#include <string_view>

namespace kernelforge {

/// What one run works on. All memory is the caller's, must hold the bytes that the program's
/// buffers have at these sizes, and is not kept after the run.
struct Bindings {
  std::span<const int64_t> sizes;   ///< in the order of Program::sizes
  std::span<void *const> arguments; ///< in the order of Program::arguments; caches are written
  std::span<void *const> results;   ///< in the order of Program::results; written
};

struct RunOptions {
  /// Where given, set to the nanoseconds of each launch, by index in Program::launches.
  std::vector<int64_t> *launchNanoseconds = nullptr;
  /// Where given, a true value ends the run between two launches with ErrorKind::Interrupted.
  const std::atomic<bool> *cancel = nullptr;
};

/// Memory that a backend holds for a loaded program, besides what the caller binds. Programs of
/// one backend may share it.
struct MemoryUse {
  int64_t arenaBytes = 0;   ///< intermediates
  int64_t scratchBytes = 0; ///< of all workers
};

/// A program that is ready to run.
class Executable {
public:
  virtual ~Executable() = default;

  virtual const Program &program() const = 0;
  virtual MemoryUse memory() const = 0;

  /// Runs all launches in order; when it returns, all results are there. Runs of one backend's
  /// executables follow each other, whichever threads call. Unusable where a binding is missing or
  /// a size is out of the range that the program was compiled for.
  virtual Status run(const Bindings &bindings, const RunOptions &options = {}) = 0;
};

/// A device with its workers and memory.
class Backend {
public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;

  /// Makes a program ready. Unusable where it is inconsistent (checkProgram), Failed where its
  /// code cannot be loaded or its memory cannot be had.
  virtual Expected<std::unique_ptr<Executable>> load(std::shared_ptr<const Program> program) = 0;
};

/// Whether a program is consistent: artifacts are code or a host function, all indices in range,
/// extents without overflow at the largest sizes, intermediates within the arena, every other
/// buffer bound exactly once.
Status checkProgram(const Program &program);

/// Whether `bindings` fit a program: as many sizes and pointers as it has, sizes in their ranges,
/// no null pointer to a buffer with bytes.
Status checkBindings(const Program &program, const Bindings &bindings);

} // namespace kernelforge
