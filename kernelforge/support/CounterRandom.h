// Random bits that are a function of a seed and a counter alone: they can be made in any order,
// again, by several threads, or on another machine.
#pragma once

#include <cstdint>

namespace kernelforge {

/// The finalizer of splitmix64: a bijection whose output bits all depend on all input bits.
constexpr uint64_t mixBits(uint64_t x) {
  x ^= x >> 30;
  x *= 0xBF58476D1CE4E5B9;
  x ^= x >> 27;
  x *= 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

/// 64 uniform bits.
constexpr uint64_t randomBits(uint64_t seed, uint64_t counter) {
  constexpr uint64_t golden = 0x9E3779B97F4A7C15;
  return mixBits(mixBits(seed + golden) + (counter + 1) * golden);
}

/// A uniform number in [0, 1).
constexpr double randomUniform(uint64_t seed, uint64_t counter) {
  return static_cast<double>(randomBits(seed, counter) >> 11) * 0x1p-53;
}

} // namespace kernelforge
