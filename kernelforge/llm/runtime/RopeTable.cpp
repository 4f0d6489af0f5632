#include "kernelforge/llm/runtime/RopeTable.h"

#include <cmath>

using namespace kernelforge;

/// Dynamic NTK: theta * (f L / L0 - (f - 1)) ^ (d / (d - 2)) for L positions beyond the original
/// L0.
static double thetaOf(const RopeDescription &rope, int64_t positions) {
  if (rope.dynamicFactor == 0 || positions <= rope.originalContext)
    return rope.theta;
  const double ratio = static_cast<double>(positions) / static_cast<double>(rope.originalContext);
  const auto dim = static_cast<double>(rope.rotaryDim);
  const double growth = rope.dynamicFactor * ratio - (rope.dynamicFactor - 1);
  return rope.theta * std::pow(growth, dim / (dim - 2));
}

std::vector<float> kernelforge::makeRopeTable(const RopeDescription &rope, int64_t positions) {
  int64_t half = rope.rotaryDim / 2;
  const double theta = thetaOf(rope, positions);
  const bool isLong = !rope.longFactors.empty() && positions > rope.originalContext;
  const std::vector<double> &factors = isLong ? rope.longFactors : rope.frequencyFactors;
  std::vector<float> frequencies(half);
  for (int64_t i = 0; i < half; ++i) {
    double factor = factors.empty() ? 1.0 : factors[i];
    double exponent = static_cast<double>(2 * i) / static_cast<double>(rope.rotaryDim);
    frequencies[i] = static_cast<float>(1.0 / (std::pow(theta, exponent) * factor));
  }
  std::vector<float> table(positions * rope.rotaryDim);
  for (int64_t p = 0; p < positions; ++p)
    for (int64_t i = 0; i < half; ++i) {
      float angle = static_cast<float>(p) * frequencies[i];
      float *row = table.data() + p * rope.rotaryDim;
      row[i] = static_cast<float>(std::cos(static_cast<double>(angle)) * rope.magnitude);
      row[half + i] = static_cast<float>(std::sin(static_cast<double>(angle)) * rope.magnitude);
    }
  return table;
}
