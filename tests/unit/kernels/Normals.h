// Numbers for tests of kernels.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace kernelforge {

/// `count` normally distributed numbers, the same for the same seed.
inline std::vector<float> normals(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float &x : values)
    x = normal(random);
  return values;
}

} // namespace kernelforge
