#include "kernelforge/support/ElementType.h"

#include "kernelforge/support/CheckedArithmetic.h"

#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>

namespace kernelforge {

namespace {

constexpr std::array<ElementTypeInfo, 7> table = {{
    // type             name  ggml elems bytes bits  d   m  qs zero
    {ElementType::F32, "f32", 0, 1, 4, 0, 0, -1, 0, 0},
    {ElementType::F16, "f16", 1, 1, 2, 0, 0, -1, 0, 0},
    {ElementType::BF16, "bf16", 30, 1, 2, 0, 0, -1, 0, 0},
    {ElementType::I32, "i32", 26, 1, 4, 0, 0, -1, 0, 0},
    {ElementType::Q4_0, "q4_0", 2, 32, 18, 4, 0, -1, 2, 8},
    {ElementType::Q4_1, "q4_1", 3, 32, 20, 4, 0, 2, 4, 0},
    {ElementType::Q8_0, "q8_0", 8, 32, 34, 8, 0, -1, 2, 0},
}};

constexpr bool tableIsOrdered() {
  for (size_t i = 0; i < table.size(); ++i)
    if (static_cast<size_t>(table[i].type) != i)
      return false;
  return true;
}

/// A quantized block is its header followed by its quants and nothing else.
constexpr bool blocksAreFull() {
  for (const ElementTypeInfo &t : table)
    if (t.isQuantized() && t.quantsOffset + t.blockElements * t.quantBits / 8 != t.blockBytes)
      return false;
  return true;
}

constexpr bool hasBlock(ElementType type, int64_t elements, int64_t bytes) {
  const ElementTypeInfo &t = table[static_cast<size_t>(type)];
  return t.blockElements == elements && t.blockBytes == bytes;
}

static_assert(tableIsOrdered(), "the table is indexed by the enumeration");
static_assert(blocksAreFull(), "a block ends with its last quant");
static_assert(hasBlock(ElementType::F32, 1, 4) && hasBlock(ElementType::F16, 1, 2) &&
              hasBlock(ElementType::BF16, 1, 2) && hasBlock(ElementType::I32, 1, 4));
static_assert(hasBlock(ElementType::Q4_0, 32, 18), "f16 d, 16 bytes of nibbles");
static_assert(hasBlock(ElementType::Q4_1, 32, 20), "f16 d, f16 m, 16 bytes of nibbles");
static_assert(hasBlock(ElementType::Q8_0, 32, 34), "f16 d, 32 signed bytes");
static_assert(std::endian::native == std::endian::little,
              "blocks are read and written by byte copies of little-endian fields");

/// Blocks begin at any address, so fields are copied, never read through a cast pointer.
template <typename T> T load(const std::byte *from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}
template <typename T> void store(std::byte *to, T value) { std::memcpy(to, &value, sizeof(T)); }

/// Cuts off the fraction and keeps the result in [low, high]; NaN gives `low`.
int truncateInto(float value, int low, int high) {
  if (!(value > static_cast<float>(low)))
    return low;
  if (value >= static_cast<float>(high))
    return high;
  return static_cast<int>(value);
}

void dequantizeBlock(const ElementTypeInfo &t, const std::byte *block, float *out) {
  const float d = halfToFloat(load<uint16_t>(block + t.scaleOffset));
  const float m = t.hasMin() ? halfToFloat(load<uint16_t>(block + t.minOffset)) : 0.0f;
  const std::byte *quants = block + t.quantsOffset;
  // Two statements, so that no compiler contracts them to a fused multiply-add.
  auto value = [&](int q) {
    float scaled = static_cast<float>(q - t.zero) * d;
    return t.hasMin() ? scaled + m : scaled;
  };
  if (t.quantBits == 8) {
    for (int64_t j = 0; j < t.blockElements; ++j)
      out[j] = value(load<int8_t>(quants + j));
    return;
  }
  const int64_t half = t.blockElements / 2;
  for (int64_t j = 0; j < half; ++j) {
    const int pair = std::to_integer<int>(quants[j]);
    out[j] = value(pair & 15);
    out[j + half] = value(pair >> 4);
  }
}

/// The scale and offset of ggml's reference quantizers. With a minimum, the range [min, max] is
/// cut into 2^bits - 1 steps; with a zero point, the value of largest magnitude becomes quant 0;
/// otherwise the largest magnitude becomes the largest signed quant.
void quantizeBlock(const ElementTypeInfo &t, const float *in, std::byte *block) {
  float low = in[0], high = in[0], largest = 0.0f;
  for (int64_t j = 0; j < t.blockElements; ++j) {
    low = std::fmin(low, in[j]);
    high = std::fmax(high, in[j]);
    if (std::fabs(in[j]) > std::fabs(largest))
      largest = in[j];
  }
  const int top = (1 << t.quantBits) - 1;
  float d, bias, subtract = 0.0f;
  if (t.hasMin()) {
    d = (high - low) / static_cast<float>(top);
    bias = 0.5f;
    subtract = low;
    store(block + t.minOffset, floatToHalf(low));
  } else if (t.zero != 0) {
    d = largest / static_cast<float>(-t.zero);
    bias = static_cast<float>(t.zero) + 0.5f;
  } else {
    const int largestQuant = top / 2; // both signs
    d = std::fabs(largest) / static_cast<float>(largestQuant);
    bias = 0.0f;
  }
  store(block + t.scaleOffset, floatToHalf(d));
  // A scale that is subnormal has an infinite inverse; the quants are then clamped.
  const float inverse = d != 0.0f ? 1.0f / d : 0.0f;

  std::byte *quants = block + t.quantsOffset;
  if (t.quantBits == 8) {
    for (int64_t j = 0; j < t.blockElements; ++j) {
      float scaled = std::round(in[j] * inverse);
      store(quants + j, static_cast<int8_t>(truncateInto(scaled, -(top / 2), top / 2)));
    }
    return;
  }
  const int64_t half = t.blockElements / 2;
  auto quant = [&](float x) {
    float scaled = (x - subtract) * inverse;
    return truncateInto(scaled + bias, 0, top);
  };
  for (int64_t j = 0; j < half; ++j)
    quants[j] = static_cast<std::byte>(quant(in[j]) | quant(in[j + half]) << 4);
}

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

uint16_t floatToBfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) // NaN: quiet, or its payload could round away
    return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

void dequantizeRow(ElementType type, const std::byte *row, uint64_t elements, float *out) {
  const ElementTypeInfo &t = info(type);
  assert(elements % static_cast<uint64_t>(t.blockElements) == 0 && "a row is whole blocks");
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
    for (uint64_t i = 0; i < elements; i += t.blockElements, row += t.blockBytes)
      dequantizeBlock(t, row, out + i);
  }
}

void quantizeRow(ElementType type, const float *in, uint64_t elements, std::byte *row) {
  const ElementTypeInfo &t = info(type);
  assert(elements % static_cast<uint64_t>(t.blockElements) == 0 && "a row is whole blocks");
  switch (type) {
  case ElementType::F32:
    if (elements != 0)
      std::memcpy(row, in, elements * sizeof(float));
    return;
  case ElementType::F16:
    for (uint64_t i = 0; i < elements; ++i)
      store(row + 2 * i, floatToHalf(in[i]));
    return;
  case ElementType::BF16:
    for (uint64_t i = 0; i < elements; ++i)
      store(row + 2 * i, floatToBfloat16(in[i]));
    return;
  case ElementType::I32: // to nearest, kept inside the type: the cast alone would be undefined
    for (uint64_t i = 0; i < elements; ++i) {
      double rounded = std::nearbyint(static_cast<double>(in[i]));
      double inside = std::fmin(std::fmax(rounded, -2147483648.0), 2147483647.0);
      store(row + 4 * i, static_cast<int32_t>(inside));
    }
    return;
  default:
    for (uint64_t i = 0; i < elements; i += t.blockElements, row += t.blockBytes)
      quantizeBlock(t, in + i, row);
  }
}

} // namespace kernelforge
