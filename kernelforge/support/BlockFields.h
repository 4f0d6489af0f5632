// Fields of quantized blocks in memory, for what expands and what makes them: where a quant is, and
// the scales of a sub-block.
#pragma once

#include "kernelforge/support/ElementType.h"

#include <bit>
#include <cstddef>
#include <cstring>

namespace kernelforge::fields {

static_assert(std::endian::native == std::endian::little,
              "blocks are read and written by byte copies of little-endian fields");

/// Blocks begin at any address, so fields are copied, never read through a cast pointer.
template <typename T> T load(const std::byte *from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}
template <typename T> void store(std::byte *to, T value) { std::memcpy(to, &value, sizeof(T)); }

inline int byteAt(const std::byte *bytes, int64_t index) {
  return std::to_integer<int>(bytes[index]);
}

/// Where the quant of element `i` of a block is, as it is stored.
struct QuantPlace {
  QuantPlace(const ElementTypeInfo &t, int64_t i) {
    if (t.quantBits == 8) {
      low = t.quantsOffset + i;
      return;
    }
    const int64_t apart = t.fieldElements(), within = i % t.chunkElements;
    low = t.quantsOffset + i / t.chunkElements * apart + within % apart;
    lowShift = static_cast<int>(within / apart) * t.lowBits();
    if (!t.hasHighs())
      return;
    const int64_t together = t.highElements();
    high = t.highsOffset + i / together * t.highStep + i % t.highStep;
    highShift = static_cast<int>(i % together / t.highStep) * t.highBits();
  }

  /// All bits that stand with the chunk, `bytes` bytes further on than this element's.
  int loadLow(const ElementTypeInfo &t, const std::byte *block, int64_t bytes) const {
    const int q = byteAt(block, low + bytes);
    return t.quantBits == 8 ? static_cast<int8_t>(q) : q >> lowShift & ((1 << t.lowBits()) - 1);
  }
  /// The others, in their place above.
  int loadHigh(const ElementTypeInfo &t, const std::byte *block, int64_t bytes) const {
    return (byteAt(block, high + bytes) >> highShift & ((1 << t.highBits()) - 1)) << t.lowBits();
  }
  /// Into bits that are zero.
  void store(const ElementTypeInfo &t, std::byte *block, int q) const {
    if (high < 0) {
      block[low] |= static_cast<std::byte>(q << lowShift);
      return;
    }
    block[low] |= static_cast<std::byte>((q & ((1 << t.lowBits()) - 1)) << lowShift);
    block[high] |= static_cast<std::byte>(q >> t.lowBits() << highShift);
  }

private:
  int64_t low = 0, high = -1; ///< bytes
  int lowShift = 0, highShift = 0;
};

/// The factor of a sub-block's scale or minimum.
inline int loadSubScale(const ElementTypeInfo &t, const std::byte *block, int64_t subBlock,
                        bool isMin) {
  const std::byte *part = block + t.subScalesOffset;
  if (t.subScales == SubScales::Signed8)
    return static_cast<int8_t>(byteAt(part, subBlock));
  const SubScalePlace place = subScalePlace(t.subScales, subBlock, isMin);
  const int64_t low = byteAt(part, place.low) >> place.lowShift & place.lowMask;
  const int64_t high = byteAt(part, place.high) >> place.highShift & place.highMask;
  return static_cast<int>((low | high << 4) - subScaleExcess(t.subScales));
}

/// Stores it into bits that are zero.
inline void storeSubScale(const ElementTypeInfo &t, std::byte *block, int64_t subBlock, bool isMin,
                          int value) {
  std::byte *part = block + t.subScalesOffset;
  if (t.subScales == SubScales::Signed8) {
    part[subBlock] = static_cast<std::byte>(value);
    return;
  }
  const SubScalePlace place = subScalePlace(t.subScales, subBlock, isMin);
  value += static_cast<int>(subScaleExcess(t.subScales));
  part[place.low] |= static_cast<std::byte>((value & place.lowMask) << place.lowShift);
  part[place.high] |= static_cast<std::byte>((value >> 4 & place.highMask) << place.highShift);
}

/// 2^(e - 128), exact.
inline float e8m0ToFloat(uint8_t e) {
  return std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1u) << 23);
}

struct ScaleAndMin {
  float scale = 0, minimum = 0;
};

/// Of the whole block.
inline float loadScale(const ElementTypeInfo &t, const std::byte *block) {
  switch (t.scaleFormat) {
  case ScaleFormat::F16:
    return halfToFloat(load<uint16_t>(block + t.scaleOffset));
  case ScaleFormat::F32:
    return load<float>(block + t.scaleOffset);
  case ScaleFormat::E8M0:
    return e8m0ToFloat(load<uint8_t>(block + t.scaleOffset));
  }
  return 0;
}

/// Those of a sub-block.
inline ScaleAndMin loadScale(const ElementTypeInfo &t, const std::byte *block, int64_t subBlock) {
  const float d = loadScale(t, block);
  const float m = t.hasMin() ? halfToFloat(load<uint16_t>(block + t.minOffset)) : 0.0f;
  if (!t.hasSubScales())
    return {d, m};
  const float scale = d * static_cast<float>(loadSubScale(t, block, subBlock, false));
  return {scale,
          t.hasMin() ? -(m * static_cast<float>(loadSubScale(t, block, subBlock, true))) : 0.0f};
}

} // namespace kernelforge::fields
