// Is what a kernel computed right? The reference and its yardstick, the plain f32 implementation,
// for a matmul problem and for a function of a module, and the verdict on a result.
#pragma once

#include "kernelforge/kernels/MatmulKernel.h"
#include "kernelforge/measure/Accuracy.h"
#include "kernelforge/problem/Verification.h"

#include <span>
#include <string>
#include <vector>

namespace kernelforge {

/// What a matmul must give, in both precisions: at all elements, or at a sample of them where all
/// would take long.
class SampledMatmul {
public:
  /// Multiply-adds, and elements of the result, up to which all elements are compared.
  static constexpr double wholeMultiplyAdds = 0x1p31;
  static constexpr double wholeElements = 0x1p26;
  /// Elements that are drawn by seed beyond that, beside the first and last row and column.
  static constexpr int64_t sampledElements = 4096;

  /// Computes both; the operands, `input` [m, k] included, are not kept, and the weight is never
  /// expanded as a whole. Failed where memory for the values cannot be had.
  static Expected<SampledMatmul> create(const MatmulProblem &problem,
                                        const MatmulOperands &operands, const float *input,
                                        uint64_t seed, int threads);
  /// The same with a sample, whatever the size.
  static Expected<SampledMatmul> createSampled(const MatmulProblem &problem,
                                               const MatmulOperands &operands, const float *input,
                                               uint64_t seed, int threads);

  /// The verdict on a result [m, n]. Beyond a sample nothing may be unwritten, NaN or infinite.
  Accuracy judge(std::span<const float> out) const;

  /// Which elements are compared, ascending; empty: all.
  std::span<const int64_t> indices() const { return places; }
  /// Values of those elements.
  std::span<const float> reference() const { return wide; }
  std::span<const float> plain() const { return narrow; }

private:
  int64_t width = 0, outputs = 0;
  std::vector<int64_t> places;
  std::vector<float> wide, narrow;
};

/// One output of a function (a result, or a cache that it writes), judged.
struct OutputAccuracy {
  std::string name;
  Accuracy accuracy;
};

/// What a function must give on some data, in both precisions.
class FunctionFidelity {
public:
  /// Runs the function of `module` by its reference semantics twice, on a copy of `data` as it is
  /// before a run. Errors as runReference.
  static Expected<FunctionFidelity>
  create(mlir::ModuleOp module, const FunctionSignature &signature, const FunctionData &data);

  /// The verdicts on the outputs after a run, results first. Of a cache, the slots that the
  /// function writes are judged with the rounding of its type; all others must have kept their
  /// bits.
  std::vector<OutputAccuracy> judge(const FunctionSignature &signature,
                                    const FunctionData &data) const;

private:
  std::vector<TensorData> wide, narrow; ///< results, then written caches
  std::vector<TensorData> before;       ///< the written caches
};

/// All verdicts as one: the first that does not pass, or else the one whose largest error is
/// nearest to what is allowed; counts are summed, and `why` begins with the output's name.
Accuracy combined(std::span<const OutputAccuracy> outputs);

/// Nothing where two runs gave the same bits; otherwise which output differs first, and where:
/// "result 0: row 3, column 17 (element 1745) is 0.5, then 0.25". Both as outputsOf() gives them.
std::optional<std::string> bitwiseDifference(std::span<const TensorData *const> first,
                                             std::span<const TensorData *const> second);

} // namespace kernelforge
