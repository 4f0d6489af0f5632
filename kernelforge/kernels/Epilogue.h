// What happens to the result of a matmul before it is stored: bias, activation, residual. Written
// once for every variant that does not generate it.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// One step of an epilogue; steps are applied in the order in which they are listed.
enum class EpilogueStep : uint8_t { Bias, Relu, Silu, Gelu, GeluTanh, Residual };

/// As in `--epilogue` and in JSON: "bias", "relu", "silu", "gelu", "gelu_tanh", "residual".
std::string_view epilogueStepName(EpilogueStep step);

/// Steps separated by commas, none for an empty text. Unusable where a name is not known or a step
/// is given twice.
Expected<std::vector<EpilogueStep>> parseEpilogue(std::string_view text);

/// What parseEpilogue reads.
std::string epilogueText(std::span<const EpilogueStep> steps);

/// A rectangle of a matmul, each range without its end: rows and columns of the result, and the
/// part of the sum.
struct MatmulArea {
  int64_t rowBegin = 0, rowEnd = 0;
  int64_t columnBegin = 0, columnEnd = 0;
  int64_t kBegin = 0, kEnd = 0;
};

/// An epilogue with what it reads. `bias` has a value for each column, `residual` ([m, n]) one for
/// each element of the result; null where no step reads it. Not owned.
struct Epilogue {
  std::span<const EpilogueStep> steps;
  const float *bias = nullptr;
  const float *residual = nullptr;
  int64_t columns = 0; ///< of the whole result, and of `residual`

  /// Applies the steps to rows and columns of `area` in `out`, the whole result [m, columns].
  /// f32 arithmetic, within a few units in the last place of each function.
  void apply(const MatmulArea &area, float *out) const;

  /// Applies the steps to all `rows` rows, on `threads` threads.
  void applyToAll(int64_t rows, int threads, float *out) const;
};

} // namespace kernelforge
