// Runs one kernel from its MLIR text the whole way: schedule, emitter, LLVM, object, JIT, every
// task of every phase, over buffers that show each byte read or written where it should not be.
#pragma once

#include "kernelforge/backend/cpu/LoadedCode.h"
#include "kernelforge/codegen/Launching.h"
#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/ir/Transformer.h"

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace kernelforge {

using Bytes = std::vector<std::byte>;

template <typename T> Bytes bytesOf(const std::vector<T> &values) {
  Bytes bytes(values.size() * sizeof(T));
  if (!values.empty())
    std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}
template <typename T> std::vector<T> valuesOf(const Bytes &bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty())
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

/// What a kernel left: its results, and its arguments (of which only caches may have changed).
struct KernelOutcome {
  std::vector<Bytes> results;
  std::vector<Bytes> arguments;
};

/// Knobs of a schedule, by name.
using Knobs = std::vector<std::pair<std::string, int64_t>>;

/// A kernel's code for one target, in this process.
class CompiledKernel {
public:
  /// `text` holds one transformer.kernel; `level` is what parseTarget takes ("native", "avx512",
  /// "avx2"). `knobs` replace those of the default schedule for `threads`.
  static Expected<CompiledKernel> compile(const std::string &text, const std::string &level,
                                          const Knobs &knobs = {}, int64_t threads = 2);

  /// The same with an emitter of the test's own in place of the kernel's family; no schedule.
  using Emitter = std::function<Expected<Launching>(mlir::ModuleOp, transformer::KernelOp,
                                                    const Target &, llvm::StringRef entry)>;
  static Expected<CompiledKernel> compileWith(const Emitter &emitter, const std::string &text,
                                              const std::string &level);

  /// Runs all tasks of all phases in order, then once more with the tasks of each phase in reverse
  /// order, and fails the running test where the two differ in a bit, a guard was written, or an
  /// argument that is no cache was. `sizes` and `arguments` are the kernel's in order. Results,
  /// scratch and workspace are NaN before. A buffer ends at a page that cannot be touched, after
  /// at most `alignment - 1` guard bytes, and begins at a multiple of `alignment`.
  KernelOutcome run(const std::vector<int64_t> &sizes, const std::vector<Bytes> &arguments,
                    size_t alignment = 4) const;

  Launching launching;
  std::string schedule;   ///< as printed
  std::string orderClass; ///< of the schedule
  std::string object;     ///< ELF bytes

private:
  using Scheduler = std::function<Status(transformer::KernelOp, const Target &)>;
  static Expected<CompiledKernel> compile(const std::string &text, const std::string &level,
                                          const Scheduler &scheduler, const Emitter &emitter);
  KernelOutcome runOnce(const std::vector<int64_t> &sizes, const std::vector<Bytes> &arguments,
                        size_t alignment, bool reverse) const;

  std::shared_ptr<mlir::MLIRContext> context;
  std::shared_ptr<mlir::OwningOpRef<mlir::ModuleOp>> module; ///< holds the kernel; after context
  transformer::KernelOp kernel;
  std::shared_ptr<LoadedCode> code;
};

/// The targets that tests run on: native, and avx2 where native has wider vectors.
std::vector<std::string> runnableLevels();

/// The same, and avx512 where this machine has it: native then is avx512 with a few instructions
/// more, so one test of each kind is enough for it.
std::vector<std::string> everyRunnableLevel();
/// What this machine has to multiply bf16 with, and what is taken in its place.
std::vector<std::string> bfloat16Levels();

/// The same, where the kernel must compile: one line of the error, and the test ends.
CompiledKernel compileOrDie(const std::string &text, const std::string &level,
                            const Knobs &knobs = {}, int64_t threads = 2);

/// Random values, about normal with the deviation given; the same for the same seed.
std::vector<float> randomFloats(size_t count, uint64_t seed, float deviation = 1.0f);

/// The same values in double.
std::vector<double> widened(const std::vector<float> &values);

/// Type of rows [tokens, width] of f32 as text.
std::string rowsText(int64_t width);

/// Type of a weight [rows, width] as text.
std::string weightText(ElementType type, int64_t rows, int64_t width, bool interleaved);

/// A row-major weight of random values.
Bytes randomWeight(ElementType type, int64_t rows, int64_t width, uint64_t seed);

/// A row-major weight in the interleaved layout, by the reference.
Bytes packedWeight(ElementType type, const Bytes &weight, int64_t rows, int64_t width);

/// Fails the running test, naming `what` and the worst element, unless the results' normalised mean
/// squared error is at most `nmse` and NaN, infinities and zeros stand where they are expected.
void expectClose(const std::vector<float> &actual, const std::vector<double> &expected,
                 const std::string &what, double nmse = 1e-12);

} // namespace kernelforge
