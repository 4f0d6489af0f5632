#include "kernelforge/support/ElementType.h"

#include "kernelforge/support/BlockFields.h"
#include "kernelforge/support/CheckedArithmetic.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <utility>

namespace kernelforge {

namespace {

using namespace fields;

/// Values of four-bit quants: of IQ4_NL, whose steps grow with the magnitude, and of E2M1, twice
/// what they are there.
constexpr std::array<int8_t, 16> nonLinear = {-127, -104, -83, -65, -49, -35, -22, -10,
                                              1,    13,   25,  38,  53,  69,  89,  113};
constexpr std::array<int8_t, 16> twiceE2M1 = {0, 1,  2,  3,  4,  6,  8,  12,
                                              0, -1, -2, -3, -4, -6, -8, -12};

constexpr std::array<ElementTypeInfo, 18> table = {{
    // type             name  ggml elems bytes bits zero d   m  qs
    {ElementType::F32, "f32", 0, 1, 4},
    {ElementType::F16, "f16", 1, 1, 2},
    {ElementType::BF16, "bf16", 30, 1, 2},
    {ElementType::I32, "i32", 26, 1, 4},
    {ElementType::Q4_0, "q4_0", 2, 32, 18, 4, 8, 0, -1, 2},
    {ElementType::Q4_1, "q4_1", 3, 32, 20, 4, 0, 0, 2, 4},
    {.type = ElementType::Q5_0,
     .name = "q5_0",
     .ggmlId = 6,
     .blockElements = 32,
     .blockBytes = 22,
     .quantBits = 5,
     .zero = 16,
     .scaleOffset = 0,
     .quantsOffset = 6,
     .highsOffset = 2,
     .highStep = 1},
    {.type = ElementType::Q5_1,
     .name = "q5_1",
     .ggmlId = 7,
     .blockElements = 32,
     .blockBytes = 24,
     .quantBits = 5,
     .scaleOffset = 0,
     .minOffset = 2,
     .quantsOffset = 8,
     .highsOffset = 4,
     .highStep = 1},
    {ElementType::Q8_0, "q8_0", 8, 32, 34, 8, 0, 0, -1, 2},
    {.type = ElementType::Q2_K,
     .name = "q2_k",
     .ggmlId = 10,
     .blockElements = 256,
     .blockBytes = 84,
     .quantBits = 2,
     .scaleOffset = 80,
     .minOffset = 82,
     .quantsOffset = 16,
     .chunkElements = 128,
     .subScales = SubScales::Packed4,
     .subScalesOffset = 0,
     .subElements = 16},
    {.type = ElementType::Q3_K,
     .name = "q3_k",
     .ggmlId = 11,
     .blockElements = 256,
     .blockBytes = 110,
     .quantBits = 3,
     .zero = 4,
     .scaleOffset = 108,
     .quantsOffset = 32,
     .chunkElements = 128,
     .highsOffset = 0,
     .highStep = 32,
     .subScales = SubScales::Shared6,
     .subScalesOffset = 96,
     .subElements = 16},
    {.type = ElementType::Q4_K,
     .name = "q4_k",
     .ggmlId = 12,
     .blockElements = 256,
     .blockBytes = 144,
     .quantBits = 4,
     .scaleOffset = 0,
     .minOffset = 2,
     .quantsOffset = 16,
     .chunkElements = 64,
     .subScales = SubScales::Packed6,
     .subScalesOffset = 4},
    {.type = ElementType::Q5_K,
     .name = "q5_k",
     .ggmlId = 13,
     .blockElements = 256,
     .blockBytes = 176,
     .quantBits = 5,
     .scaleOffset = 0,
     .minOffset = 2,
     .quantsOffset = 48,
     .chunkElements = 64,
     .highsOffset = 16,
     .highStep = 32,
     .subScales = SubScales::Packed6,
     .subScalesOffset = 4},
    {.type = ElementType::Q6_K,
     .name = "q6_k",
     .ggmlId = 14,
     .blockElements = 256,
     .blockBytes = 210,
     .quantBits = 6,
     .zero = 32,
     .scaleOffset = 208,
     .quantsOffset = 0,
     .chunkElements = 128,
     .highsOffset = 128,
     .highStep = 32,
     .subScales = SubScales::Signed8,
     .subScalesOffset = 192,
     .subElements = 16},
    {.type = ElementType::IQ4_NL,
     .name = "iq4_nl",
     .ggmlId = 20,
     .blockElements = 32,
     .blockBytes = 18,
     .quantBits = 4,
     .scaleOffset = 0,
     .quantsOffset = 2,
     .values = &nonLinear},
    {.type = ElementType::IQ4_XS,
     .name = "iq4_xs",
     .ggmlId = 23,
     .blockElements = 256,
     .blockBytes = 136,
     .quantBits = 4,
     .scaleOffset = 0,
     .quantsOffset = 8,
     .subScales = SubScales::Split6,
     .subScalesOffset = 2,
     .values = &nonLinear},
    {.type = ElementType::MXFP4,
     .name = "mxfp4",
     .ggmlId = 39,
     .blockElements = 32,
     .blockBytes = 17,
     .quantBits = 4,
     .scaleOffset = 0,
     .quantsOffset = 1,
     .scaleFormat = ScaleFormat::E8M0,
     .values = &twiceE2M1},
    {.type = ElementType::F8_E4M3,
     .name = "f8_e4m3",
     .ggmlId = -1,
     .blockElements = 128,
     .blockBytes = 132,
     .quantBits = 8,
     .scaleOffset = 0,
     .quantsOffset = 4,
     .scaleFormat = ScaleFormat::F32,
     .isE4M3 = true},
}};

constexpr bool tableIsOrdered() {
  for (size_t i = 0; i < table.size(); ++i)
    if (static_cast<size_t>(table[i].type) != i)
      return false;
  return true;
}

/// A quantized block is its parts and nothing else.
constexpr bool blocksAreFull() {
  for (const ElementTypeInfo &t : table) {
    if (!t.isQuantized())
      continue;
    if (t.bytesBefore(BlockPart::Quants) + t.bytes(BlockPart::Quants) != t.blockBytes)
      return false;
    for (BlockPart part : blockParts)
      if (t.offset(part) + t.bytes(part) > t.blockBytes)
        return false;
  }
  return true;
}

/// What readers of a chunk rely on: it has whole sub-blocks and whole words of quants in each
/// field, and its high bits are whole words of its own, or in the same bytes as those of the whole
/// block.
constexpr bool chunksAreWhole() {
  for (const ElementTypeInfo &t : table) {
    if (!t.isQuantized())
      continue;
    const int64_t subBlocks = t.blockElements / t.subElements;
    const bool isWhole = t.blockElements % t.chunkElements == 0 &&
                         t.chunkElements % std::min(t.subElements, t.chunkElements) == 0 &&
                         t.fieldElements() % 16 == 0 && t.bytes(BlockPart::Quants) % 16 == 0 &&
                         (t.subScales != SubScales::Packed6 || subBlocks == 8) &&
                         (t.subScales != SubScales::Split6 || subBlocks == 8) &&
                         (t.subScales != SubScales::Shared6 || subBlocks == 16);
    if (!isWhole)
      return false;
    const bool hasOwn = t.highElements() <= t.chunkElements;
    if (t.hasHighs() && (hasOwn ? t.bytes(BlockPart::Highs) % (4 * t.chunks()) != 0 ||
                                      t.chunkElements % t.highElements() != 0
                                : t.highElements() != t.blockElements))
      return false;
  }
  return true;
}

/// Where sub-scales lie is a sum over the bits of their number, as BitSum has it.
constexpr bool placesAreSums() {
  for (const ElementTypeInfo &t : table) {
    if (!t.hasSubScales() || t.subScales == SubScales::Signed8)
      continue;
    const int64_t count = t.blockElements / t.subElements;
    for (bool isMin : {false, true})
      for (auto member :
           {&SubScalePlace::low, &SubScalePlace::lowShift, &SubScalePlace::lowMask,
            &SubScalePlace::high, &SubScalePlace::highShift, &SubScalePlace::highMask}) {
        auto place = [&](int64_t sub) { return subScalePlace(t.subScales, sub, isMin).*member; };
        const BitSum sum = BitSum::of(count, place);
        for (int64_t sub = 0; sub < count; ++sub)
          if (sum.at(sub) != place(sub))
            return false;
      }
  }
  return true;
}

constexpr bool hasBlock(ElementType type, int64_t elements, int64_t bytes) {
  const ElementTypeInfo &t = table[static_cast<size_t>(type)];
  return t.blockElements == elements && t.blockBytes == bytes;
}

static_assert(tableIsOrdered(), "the table is indexed by the enumeration");
static_assert(blocksAreFull(), "a block is full");
static_assert(chunksAreWhole(), "a chunk can be read by itself");
static_assert(placesAreSums(), "sub-scales can be found by bits of their number");
static_assert(hasBlock(ElementType::F32, 1, 4) && hasBlock(ElementType::F16, 1, 2) &&
              hasBlock(ElementType::BF16, 1, 2) && hasBlock(ElementType::I32, 1, 4));
static_assert(hasBlock(ElementType::Q4_0, 32, 18), "f16 d, 16 bytes of nibbles");
static_assert(hasBlock(ElementType::Q4_1, 32, 20), "f16 d, f16 m, 16 bytes of nibbles");
static_assert(hasBlock(ElementType::Q5_0, 32, 22), "f16 d, 4 bytes of bits, 16 of nibbles");
static_assert(hasBlock(ElementType::Q5_1, 32, 24), "f16 d and m, 4 bytes of bits, 16 of nibbles");
static_assert(hasBlock(ElementType::Q8_0, 32, 34), "f16 d, 32 signed bytes");
static_assert(hasBlock(ElementType::Q2_K, 256, 84), "16 + 64 bytes, f16 d and m");
static_assert(hasBlock(ElementType::Q3_K, 256, 110), "32 + 64 + 12 bytes, f16 d");
static_assert(hasBlock(ElementType::Q4_K, 256, 144), "f16 d and m, 12 + 128 bytes");
static_assert(hasBlock(ElementType::Q5_K, 256, 176), "f16 d and m, 12 + 32 + 128 bytes");
static_assert(hasBlock(ElementType::Q6_K, 256, 210), "128 + 64 + 16 bytes, f16 d");
static_assert(hasBlock(ElementType::IQ4_NL, 32, 18), "f16 d, 16 bytes of nibbles");
static_assert(hasBlock(ElementType::IQ4_XS, 256, 136), "f16 d, 2 + 4 + 128 bytes");
static_assert(hasBlock(ElementType::MXFP4, 32, 17), "a byte, 16 bytes of nibbles");
static_assert(hasBlock(ElementType::F8_E4M3, 128, 132), "f32 d, 128 bytes");
/// Of a type known when this is compiled, in runs of elements whose low bits stand alike: plain
/// loops, which compilers turn into vector code.
template <size_t type> void dequantizeBlock(const std::byte *block, float *out) {
  constexpr const ElementTypeInfo &t = table[type];
  constexpr int64_t run = 16;
  static_assert(t.subElements % run == 0 && t.fieldElements() % run == 0);
  for (int64_t first = 0; first < t.blockElements; first += run) {
    const ScaleAndMin s = loadScale(t, block, first / t.subElements);
    const QuantPlace place(t, first);
    std::array<float, run> quants;
    if constexpr (t.isE4M3) {
      for (int64_t i = 0; i < run; ++i)
        quants[i] = e4m3ToFloat(std::to_integer<uint8_t>(block[t.quantsOffset + first + i]));
    } else {
      std::array<int, run> stored;
      for (int64_t i = 0; i < run; ++i)
        stored[i] = place.loadLow(t, block, i);
      if constexpr (t.highStep >= run) {
        for (int64_t i = 0; i < run; ++i)
          stored[i] |= place.loadHigh(t, block, i);
      } else if constexpr (t.hasHighs()) {
        for (int64_t i = 0; i < run; ++i)
          stored[i] |= QuantPlace(t, first + i).loadHigh(t, block, 0);
      }
      for (int64_t i = 0; i < run; ++i)
        quants[i] = static_cast<float>(t.value(stored[i]));
    }
    for (int64_t i = 0; i < run; ++i) {
      // Two statements, so that no compiler contracts them to a fused multiply-add.
      const float scaled = quants[i] * s.scale;
      out[first + i] = t.hasMin() ? scaled + s.minimum : scaled;
    }
  }
}

template <size_t type> void dequantizeBlocks(const std::byte *row, uint64_t elements, float *out) {
  if constexpr (table[type].isQuantized())
    for (uint64_t i = 0; i < elements;
         i += table[type].blockElements, row += table[type].blockBytes)
      dequantizeBlock<type>(row, out + i);
}

/// That of each type, in the order of the table.
constexpr auto dequantizers = []<size_t... types>(std::index_sequence<types...>) {
  return std::array{dequantizeBlocks<types>...};
}(std::make_index_sequence<table.size()>());

} // namespace

std::span<const ElementTypeInfo> elementTypes() { return table; }

const ElementTypeInfo &info(ElementType type) { return table[static_cast<size_t>(type)]; }

std::optional<ElementType> elementTypeByName(std::string_view name) {
  for (const ElementTypeInfo &t : table)
    if (t.name == name)
      return t.type;
  return std::nullopt;
}

std::optional<ElementType> elementTypeByGgmlId(int64_t id) {
  for (const ElementTypeInfo &t : table)
    if (t.ggmlId == id && id >= 0)
      return t.type;
  return std::nullopt;
}

std::optional<uint64_t> rowBytes(ElementType type, uint64_t elements) {
  const ElementTypeInfo &t = info(type);
  const auto perBlock = static_cast<uint64_t>(t.blockElements);
  if (elements % perBlock != 0)
    return std::nullopt;
  return checkedMul(elements / perBlock, static_cast<uint64_t>(t.blockBytes));
}

float halfToFloat(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0x1f) // infinity or NaN, payload kept
    return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0)
    return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  // Zero or subnormal: mantissa * 2^-24, exact in f32.
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

float bfloat16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

uint16_t floatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) // NaN: quiet, the top of the payload kept
    return static_cast<uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x477ff000u) // 65520 and more round to infinity
    return static_cast<uint16_t>(sign | 0x7c00u);
  uint32_t mantissa, shift;
  if (magnitude < 0x38800000u) { // below 2^-14: subnormal half, units of 2^-24
    if (magnitude < 0x33000000u) // below 2^-25: zero
      return sign;
    mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    shift = 126 - (magnitude >> 23);
  } else { // rebias; the rounding carry may move into the exponent, as it should
    mantissa = magnitude - (112u << 23);
    shift = 13;
  }
  const uint32_t kept = mantissa >> shift;
  const uint32_t rest = mantissa & ((1u << shift) - 1);
  const uint32_t halfway = 1u << (shift - 1);
  const bool up = rest > halfway || (rest == halfway && (kept & 1u));
  return static_cast<uint16_t>(sign | (kept + (up ? 1u : 0u)));
}

float e4m3ToFloat(uint8_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x80u) << 24, magnitude = bits & 0x7fu;
  if (magnitude == 0x7f)
    return std::bit_cast<float>(sign | 0x7fc00000u);
  // The f16 with the same exponent and mantissa is a 256th of it.
  const float value = halfToFloat(static_cast<uint16_t>(magnitude << 7)) * 256.0f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
}

uint8_t floatToE4M3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>(bits >> 24 & 0x80u);
  const float magnitude = std::fabs(value);
  if (std::isnan(magnitude))
    return sign | 0x7f;
  if (magnitude >= 448.0f)
    return sign | 0x7e;
  // Steps are an eighth of the power of two below, and those of the least one below that.
  const int exponent = std::max(magnitude > 0 ? std::ilogb(magnitude) : -6, -6);
  const auto steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 3 - exponent)));
  return static_cast<uint8_t>(sign | (((exponent + 6) << 3) + steps));
}

uint16_t floatToBfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) // NaN: quiet, or its payload could round away
    return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

void dequantizeRow(ElementType type, const std::byte *row, uint64_t elements, float *out) {
  assert(elements % static_cast<uint64_t>(info(type).blockElements) == 0 &&
         "a row is whole blocks");
  switch (type) {
  case ElementType::F32:
    if (elements != 0)
      std::memcpy(out, row, elements * sizeof(float));
    return;
  case ElementType::F16:
    for (uint64_t i = 0; i < elements; ++i)
      out[i] = halfToFloat(load<uint16_t>(row + 2 * i));
    return;
  case ElementType::BF16:
    for (uint64_t i = 0; i < elements; ++i)
      out[i] = bfloat16ToFloat(load<uint16_t>(row + 2 * i));
    return;
  case ElementType::I32:
    for (uint64_t i = 0; i < elements; ++i)
      out[i] = static_cast<float>(load<int32_t>(row + 4 * i));
    return;
  default:
    return dequantizers[static_cast<size_t>(type)](row, elements, out);
  }
}

} // namespace kernelforge
