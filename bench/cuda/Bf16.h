// bf16 as words of 16 bits, and random ones.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace kernelforge::bench {

inline uint16_t toBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline float fromBf16(uint16_t value) { return std::bit_cast<float>(uint32_t(value) << 16); }

/// About normal, of variance 1; `seed` is not 0.
inline std::vector<uint16_t> randomBf16(int64_t count, uint64_t seed) {
  std::vector<uint16_t> values(static_cast<size_t>(count));
  uint64_t state = seed;
  for (uint16_t &value : values) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    float sum = 0;
    for (int i = 0; i < 4; ++i)
      sum += float((state >> (16 * i)) & 0xffff) / 65536.0F - 0.5F;
    value = toBf16(sum * 1.732F);
  }
  return values;
}

} // namespace kernelforge::bench
