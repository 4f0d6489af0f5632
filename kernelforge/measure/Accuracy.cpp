#include "kernelforge/measure/Accuracy.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace kernelforge {

/// A signalling-free NaN with a payload of its own: arithmetic yields 0x7fc00000 or 0xffc00000.
static constexpr uint32_t poisonBits = 0x7fc5a5a5;

void poison(std::span<float> values) {
  std::fill(values.begin(), values.end(), std::bit_cast<float>(poisonBits));
}

Accuracy compareValues(std::span<const float> out, std::span<const float> reference,
                       double tolerance) {
  Accuracy result;
  result.tolerance = tolerance;
  for (float value : reference)
    if (std::isfinite(value))
      result.maxReference = std::max(result.maxReference, std::abs(double(value)));
  const double floor = 1e-3 * result.maxReference;

  double errorSquares = 0, referenceSquares = 0, outSquares = 0, products = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double x = out[i], r = reference[i];
    if (std::bit_cast<uint32_t>(out[i]) == poisonBits)
      ++result.poisonedLeft;
    if (!std::isfinite(x) || !std::isfinite(r)) {
      if (!(std::isnan(x) && std::isnan(r)) && x != r && result.nan++ == 0)
        result.worst = static_cast<int64_t>(i);
      continue;
    }
    const double error = std::abs(x - r);
    if (result.nan == 0 && (error > result.maxAbs || result.worst < 0))
      result.worst = static_cast<int64_t>(i);
    result.maxAbs = std::max(result.maxAbs, error);
    if (error > 0)
      result.maxRel = std::max(result.maxRel, error / std::max(std::abs(r), floor));
    errorSquares += error * error;
    referenceSquares += r * r;
    outSquares += x * x;
    products += x * r;
  }
  if (errorSquares > 0) {
    result.l2Rel = std::sqrt(errorSquares / referenceSquares);
    result.cosineDiff = 1 - 2 * products / (outSquares + referenceSquares);
  }
  result.pass = result.nan == 0 && result.poisonedLeft == 0 &&
                result.maxAbs <= tolerance * result.maxReference;
  return result;
}

} // namespace kernelforge
