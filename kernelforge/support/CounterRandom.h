// Random bits that are a function of a seed and a counter alone: they can be made in any order,
// again, by several threads, or on another machine.
#pragma once

#include <array>
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

/// Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2,
/// 3"): 128 uniform bits from products of 32 bits, which every device has.
constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, uint64_t key) {
  constexpr uint64_t factor0 = 0xD2511F53, factor1 = 0xCD9E8D57;
  constexpr uint32_t step0 = 0x9E3779B9, step1 = 0xBB67AE85;
  auto low = [](uint64_t x) { return static_cast<uint32_t>(x); };
  auto high = [](uint64_t x) { return static_cast<uint32_t>(x >> 32); };
  std::array<uint32_t, 4> x = counter;
  uint32_t key0 = low(key), key1 = high(key);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = factor0 * x[0], product1 = factor1 * x[2];
    x = {high(product1) ^ x[1] ^ key0, low(product1), high(product0) ^ x[3] ^ key1, low(product0)};
    key0 += step0;
    key1 += step1;
  }
  return x;
}

} // namespace kernelforge
