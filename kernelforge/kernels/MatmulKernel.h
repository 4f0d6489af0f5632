// One problem, many ways to run it: the interface of the variants (reference, blocked, parallel,
// generated, vendor libraries) that compute a matmul.
#pragma once

#include "kernelforge/codegen/ScheduleSpace.h"
#include "kernelforge/kernels/MatmulProblem.h"
#include "kernelforge/records/Record.h"
#include "kernelforge/support/Error.h"

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// What a matmul reads beside its input. `weight` may have any alignment; `bias` [n] and `residual`
/// [m, n] are null where the epilogue has no such step. The memory outlives the prepared matmul.
struct MatmulOperands {
  const std::byte *weight = nullptr;
  const float *bias = nullptr;
  const float *residual = nullptr;
};

/// How to run it.
struct MatmulOptions {
  int threads = 1;
  std::string schedule; ///< JSON; empty: the variant's own choice
};

/// Whether a variant can run a problem here.
struct MatmulSupport {
  enum class Kind {
    Ok,
    Unsupported, ///< the variant cannot do this, anywhere
    Unavailable  ///< something that the variant needs is not here
  };
  Kind kind = Kind::Ok;
  std::string why; ///< empty where it can

  static MatmulSupport ok() { return {}; }
  /// Of a variant that rounds no operand.
  static MatmulSupport inF32(const MatmulProblem &problem) {
    if (problem.numerics == Numerics::F32)
      return ok();
    return unsupported("it multiplies in f32, not in " +
                       std::string(numericsName(problem.numerics)));
  }
  static MatmulSupport unsupported(std::string why) { return {Kind::Unsupported, std::move(why)}; }
  static MatmulSupport unavailable(std::string why) { return {Kind::Unavailable, std::move(why)}; }
  explicit operator bool() const { return kind == Kind::Ok; }
};

/// What a measurement row says about a prepared matmul.
struct MatmulDetails {
  std::string schedule;       ///< canonical JSON; empty where the variant has no schedule
  std::string scheduleSource; ///< "pinned", "record", "transferred", "analytic", or empty
  std::string library;        ///< name and version of a vendor's library
  std::string codeHash;       ///< of generated code
  RecordResources resources;  ///< of generated code
  double compileMs = 0;       ///< time that compiling took, or bringing the weight into a layout
};

/// A matmul that is ready to run, as often as wanted. Not to be run by two threads at once.
class PreparedMatmul {
public:
  virtual ~PreparedMatmul() = default;

  /// Reads `input` [m, k], writes all of `output` [m, n] and nothing else.
  virtual Status run(const float *input, float *output) = 0;

  /// Whether it runs on a device that times its runs itself: with timeRuns(), not run(), which
  /// copies to and from that device.
  virtual bool hasOwnClock() const { return false; }

  /// Then: the nanoseconds that `calls` runs take together by that clock, on what the last run()
  /// was given.
  virtual Expected<double> timeRuns(int64_t calls) {
    return unusable("runs cannot be timed", "device", "it has no clock of its own", "time run()");
  }

  MatmulDetails details;
};

/// One variant. Stateless: a registry holds one of each for the whole process.
class MatmulKernel {
public:
  virtual ~MatmulKernel() = default;

  /// As in `--variant`: "blocked", "vendor:openblas".
  virtual std::string_view name() const = 0;

  /// Whether prepare() will do for a problem that checkProblem accepts.
  virtual MatmulSupport supports(const MatmulProblem &problem) const = 0;

  /// supports() as an error: Missing where what the variant needs is not here, Unusable where it
  /// cannot do the problem.
  Status check(const MatmulProblem &problem) const;

  /// The schedules of a problem that supports() accepts; nothing where there is no choice.
  virtual std::optional<ScheduleSpace> scheduleSpace(const MatmulProblem & /*problem*/,
                                                     int /*threads*/) const {
    return std::nullopt;
  }

  /// Whether it has threads of its own besides OpenMP's, which are in each other's way.
  virtual bool hasOwnThreads() const { return false; }

  /// Makes the problem ready to run with `operands`. Unusable where the problem, the operands, the
  /// thread count or the schedule is not legal, or the variant does not support it; Missing where
  /// what it needs is not here.
  Expected<std::unique_ptr<PreparedMatmul>> prepare(const MatmulProblem &problem,
                                                    const MatmulOperands &operands,
                                                    const MatmulOptions &options) const;

private:
  /// Whether make() chooses a schedule itself where the caller gives none: it then gets an empty
  /// one, and fills in the details of what it chose.
  virtual bool choosesSchedule() const { return false; }

  /// As prepare(), for what it found to be legal. Where scheduleSpace() gives a space, `schedule`
  /// has been checked by it, or is left to choosesSchedule(); otherwise it is empty.
  virtual Expected<std::unique_ptr<PreparedMatmul>> make(const MatmulProblem &problem,
                                                         const MatmulOperands &operands,
                                                         const KnobValues &schedule,
                                                         int threads) const = 0;
};

} // namespace kernelforge
