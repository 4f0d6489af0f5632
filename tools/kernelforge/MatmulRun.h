// One matmul problem with random operands and the result that must come out: what benchmark-matmul
// times all variants on, and what diagnose tries.
#pragma once

#include "Command.h"

#include "kernelforge/kernels/MatmulRegistry.h"
#include "kernelforge/measure/Accuracy.h"
#include "kernelforge/measure/Timing.h"
#include "kernelforge/support/PageMemory.h"

namespace kernelforge::cli {

/// Adds -m, -n and -k, the sizes of a problem.
void addProblemSizes(CLI::App &command, MatmulProblem &problem);

/// The process's variants, with the generated one for the target, cache and records asked for.
Expected<MatmulRegistry> matmulVariants(const Context &context);

class MatmulRun {
public:
  /// Operands of both signs, the same for the same seed; the reference in f64, of all rows or,
  /// where that would take long, of 64 that are spread over the result. Numerics round nothing in
  /// it; how far a plain computation that rounds is from it, is allowed four times. Unusable where
  /// the problem is not legal or needs more memory than this machine has.
  static Expected<std::unique_ptr<MatmulRun>> create(const MatmulProblem &problem, uint64_t seed,
                                                     int threads);

  /// As MatmulKernel::prepare, on these operands.
  Expected<std::unique_ptr<PreparedMatmul>> prepare(const MatmulKernel &kernel,
                                                    const std::string &schedule) const;

  /// Runs once. All variants read the same operands and write the same result.
  Status run(PreparedMatmul &matmul) {
    return matmul.run(reinterpret_cast<const float *>(input.data()), result());
  }

  /// Runs into a poisoned result and compares it with the reference.
  Expected<Accuracy> verify(PreparedMatmul &matmul);

  /// Runs to be timed, of one that has run: by its device's clock where that has one of its own.
  TimedCalls timed(PreparedMatmul &matmul);

  /// Whether more runs into poisoned results give the same bits.
  Expected<bool> repeats(PreparedMatmul &matmul);

  const MatmulProblem &problem() const { return shape; }
  int threads() const { return threadCount; }

  /// Rows of the result that are compared.
  size_t comparedRows() const { return rows.size(); }

private:
  MatmulRun(const MatmulProblem &problem, int threads) : shape(problem), threadCount(threads) {}
  Status makeOperands(uint64_t seed);
  Status makeReference();
  void measureRounding(const MatmulProblem &part, const MatmulOperands &operands,
                       const float *input);
  MatmulOperands operands() const;
  float *result() const { return reinterpret_cast<float *>(output.data()); }
  std::span<float> resultSpan() const { return {result(), static_cast<size_t>(shape.m * shape.n)}; }
  std::vector<float> comparedResult() const;

  MatmulProblem shape;
  int threadCount;
  PageMemory input, weight, bias, residual, output;
  std::vector<int64_t> rows;    ///< that are compared, ascending
  std::vector<float> reference; ///< of those rows
  double typical = 0;           ///< size of an element of the product, as random signs give it
  double rounded = 0;           ///< how far rounding as numerics say takes an element from it
};

} // namespace kernelforge::cli
