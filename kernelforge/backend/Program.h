// What the compiler hands to a backend: artifacts, launches in order, buffers. Plain data; a
// backend binds buffers and launches, and knows nothing of matmuls.
#pragma once

#include "kernelforge/codegen/KernelCost.h"
#include "kernelforge/codegen/Launching.h"
#include "kernelforge/kernels/LibraryCall.h"
#include "kernelforge/support/Error.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kernelforge {

/// One kernel as a device takes it: code, or a call of a library, which has neither code nor a
/// launching. Each target has its own calling convention (backend/<target>).
struct Artifact {
  std::string kernel;                ///< name in the module
  std::string entry;                 ///< symbol: from the kernel's hash, without names or locations
  std::string code;                  ///< object file bytes (CPU)
  std::string codeHash;              ///< of `code`
  std::string schedule;              ///< as JSON
  std::string scheduleSource;        ///< pinned, record, transferred or analytic
  std::string variant = "generated"; ///< what runs it
  std::optional<LibraryCall> library; ///< where another variant than generated does
  Launching launching;
  std::vector<std::string> sizeNames;
  KernelCost cost;           ///< what a launch must compute and move at least
  bool fromCache = false;    ///< the object was read from disk
  double compileSeconds = 0; ///< of this run; 0 when from the cache
};

enum class BufferKind {
  Argument,     ///< bound by the caller at each run: inputs and outputs
  Weight,       ///< bound once by name
  Cache,        ///< bound once: written by memory effect, kept between runs
  Intermediate, ///< lies in the arena at `offset`; space is reused by liveness
};

struct Buffer {
  std::string name;
  BufferKind kind = BufferKind::Intermediate;
  Extent bytes;       ///< over the program's sizes
  int64_t offset = 0; ///< in the arena, for intermediates
};

/// One use of an artifact. `buffers` are indices into Program::buffers: the kernel's arguments, its
/// results, then its workspaces (-1 for one that is ZeroedOnce, which what is bound has of its
/// own); `sizes` are indices of the program's sizes in the order of the artifact's.
struct Launch {
  int artifact = 0;
  std::vector<int> buffers;
  std::vector<int> sizes;
  int layer = -1; ///< of the decoder; -1: none
};

/// A result that no launch writes: it is an argument or another result, copied when all launches
/// are over.
struct ResultCopy {
  int from = 0; ///< indices into Program::buffers
  int to = 0;
  Extent bytes; ///< over the program's sizes
};

/// A dynamic size of a program and the range it was compiled for.
struct ProgramSize {
  std::string name;
  int64_t min = 1;
  int64_t max = 1;
};

struct Program {
  std::string function;
  std::vector<ProgramSize> sizes;
  std::vector<Buffer> buffers;
  std::vector<int> arguments; ///< buffer of each tensor or cache argument of the function, in order
  std::vector<int> results;   ///< buffer of each result, in order
  std::vector<Artifact> artifacts;
  std::vector<Launch> launches;
  std::vector<ResultCopy> copies;
  int64_t arenaBytes = 0; ///< at the sizes' maxima
};

/// Unusable where a program is inconsistent: artifacts are code or a library call, whose operands
/// fill the buffers that it is given, all indices in range, extents without overflow at the largest
/// sizes, intermediates within the arena, every other buffer bound exactly once.
Status checkProgram(const Program &program);

/// Value of an extent at `sizes`; nothing where it is malformed or beyond an int64_t.
std::optional<uint64_t> checkedExtent(const Extent &extent, std::span<const int64_t> sizes);

} // namespace kernelforge
