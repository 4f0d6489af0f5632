#include "kernelforge/llm/runtime/RopeTable.h"

#include <cmath>

using namespace kernelforge;

std::vector<float> kernelforge::makeRopeTable(const RopeDescription &rope, int64_t positions) {
  int64_t half = rope.rotaryDim / 2;
  std::vector<float> frequencies(half);
  for (int64_t i = 0; i < half; ++i) {
    double factor = rope.frequencyFactors.empty() ? 1.0 : rope.frequencyFactors[i];
    double exponent = static_cast<double>(2 * i) / static_cast<double>(rope.rotaryDim);
    frequencies[i] = static_cast<float>(1.0 / (std::pow(rope.theta, exponent) * factor));
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
