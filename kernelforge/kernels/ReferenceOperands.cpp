#include "kernelforge/kernels/ReferenceOperands.h"

#include <algorithm>
#include <cmath>

namespace kernelforge::reference {

float OperandRounding::element(float x) const {
  if (!changesElements())
    return x;
  const float rounded =
      numerics == Numerics::F16 ? halfToFloat(floatToHalf(x)) : bfloat16ToFloat(floatToBfloat16(x));
  return isExact && std::isfinite(rounded) ? x : rounded;
}

void OperandRounding::elements(float *values, int64_t n) const {
  if (changesElements())
    std::transform(values, values + n, values, [this](float x) { return element(x); });
}

void OperandRounding::row(float *values, int64_t n) const {
  elements(values, n);
  if (!changesRows() || !multipliesIntegers(numerics))
    return;
  const float limit = numerics == Numerics::I8 ? largestI8 : largestI8x2;
  for (int64_t i = 0; i < n; i += integerBlock)
    roundToIntegers(values + i, integerBlock, limit);
}

void roundToIntegers(float *values, int64_t n, float limit) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i)
    largest = std::max(largest, std::fabs(values[i]));
  const float scale = largest / limit;
  for (int64_t i = 0; i < n; ++i)
    values[i] =
        scale > 0 ? std::clamp(std::nearbyint(values[i] / scale), -limit, limit) * scale : 0;
}

} // namespace kernelforge::reference
