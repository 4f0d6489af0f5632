// What a matmul is: the problem that its variants solve.
#pragma once

#include "kernelforge/kernels/Epilogue.h"
#include "kernelforge/support/ElementType.h"
#include "kernelforge/support/Error.h"
#include "kernelforge/support/Numerics.h"

#include <cstdint>
#include <string>
#include <vector>

namespace kernelforge {

/// `out = epilogue(input * weight^T)`: input [m, k] and out [m, n] in f32, row-major; the weight
/// [n, k] as it lies in a file, or [k, n] of a plain type where `transpose` is set.
struct MatmulProblem {
  int64_t m = 0, n = 0, k = 0;
  ElementType weights = ElementType::F32;
  bool transpose = false;
  std::vector<EpilogueStep> epilogue = {};
  Numerics numerics = Numerics::F32; ///< what is rounded before it is multiplied

  /// "matmul_512x1536x576_q4_1", then "_t", "_as_i8" and the epilogue's steps
  std::string name() const;
  bool has(EpilogueStep step) const;
  double flops() const { return 2.0 * double(m) * double(n) * double(k); }
  double bytes() const;         ///< input, weight, result, bias and residual, each once
  uint64_t weightBytes() const; ///< of a problem that checkProblem accepts
  ProductTraits product() const { return {.byQuantized = info(weights).isQuantized(), .rows = m}; }

  bool operator==(const MatmulProblem &) const = default;
};

/// Unusable where a size is not positive or too large, rows of the weight are no whole blocks, a
/// quantized weight is to be transposed, or numerics of whole numbers meet a plain weight.
Status checkProblem(const MatmulProblem &problem);

} // namespace kernelforge
