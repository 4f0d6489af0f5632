#include "kernelforge/support/ElementType.h"

#include "kernelforge/support/CheckedArithmetic.h"

#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>

namespace kernelforge {

namespace {

constexpr std::array<ElementTypeInfo, 10> table = {{
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
    {ElementType::Q8_0, "q8_0", 8, 32, 34, 8, 0, 0, -1, 2},
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
}};

constexpr bool tableIsOrdered() {
  for (size_t i = 0; i < table.size(); ++i)
    if (static_cast<size_t>(table[i].type) != i)
      return false;
  return true;
}

/// A quantized block is its parts and nothing else, and parts of words are whole ones.
constexpr bool blocksAreFull() {
  for (const ElementTypeInfo &t : table) {
    if (!t.isQuantized())
      continue;
    if (t.bytesBefore(BlockPart::Quants) + t.bytes(BlockPart::Quants) != t.blockBytes)
      return false;
    for (BlockPart part : blockParts)
      if (t.bytes(part) % ElementTypeInfo::unitBytes(part) != 0 ||
          t.offset(part) + t.bytes(part) > t.blockBytes)
        return false;
  }
  return true;
}

/// What readers of a chunk rely on: it has whole sub-blocks and whole words of every part.
constexpr bool chunksAreWhole() {
  for (const ElementTypeInfo &t : table) {
    if (!t.isQuantized())
      continue;
    const int64_t chunks = t.blockElements / t.chunkElements;
    const bool isWhole =
        t.blockElements % t.chunkElements == 0 && t.chunkElements % t.subElements == 0 &&
        t.bytes(BlockPart::Highs) % (4 * chunks) == 0 &&
        (t.subScales != SubScales::Packed6 || t.blockElements / t.subElements == 8);
    if (!isWhole || (t.hasHighs() && t.chunkElements % (8 / t.highBits() * t.highStep) != 0))
      return false;
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
static_assert(hasBlock(ElementType::F32, 1, 4) && hasBlock(ElementType::F16, 1, 2) &&
              hasBlock(ElementType::BF16, 1, 2) && hasBlock(ElementType::I32, 1, 4));
static_assert(hasBlock(ElementType::Q4_0, 32, 18), "f16 d, 16 bytes of nibbles");
static_assert(hasBlock(ElementType::Q4_1, 32, 20), "f16 d, f16 m, 16 bytes of nibbles");
static_assert(hasBlock(ElementType::Q5_0, 32, 22), "f16 d, 4 bytes of bits, 16 of nibbles");
static_assert(hasBlock(ElementType::Q8_0, 32, 34), "f16 d, 32 signed bytes");
static_assert(hasBlock(ElementType::Q4_K, 256, 144), "f16 d and m, 12 + 128 bytes");
static_assert(hasBlock(ElementType::Q6_K, 256, 210), "128 + 64 + 16 bytes, f16 d");
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

int byteAt(const std::byte *bytes, int64_t index) { return std::to_integer<int>(bytes[index]); }

/// Where the quant of element `i` of a block is, as it is stored. Storing is into bits that are
/// zero.
struct QuantPlace {
  QuantPlace(const ElementTypeInfo &t, int64_t i) {
    if (t.quantBits == 8) {
      low = t.quantsOffset + i;
      return;
    }
    const int64_t half = t.chunkElements / 2, within = i % t.chunkElements;
    low = t.quantsOffset + i / t.chunkElements * half + within % half;
    lowShift = within < half ? 0 : 4;
    if (!t.hasHighs())
      return;
    const int64_t together = 8 / t.highBits() * t.highStep;
    high = t.highsOffset + i / together * t.highStep + i % t.highStep;
    highShift = static_cast<int>(i % together / t.highStep) * t.highBits();
  }

  /// All bits that stand with the chunk, `bytes` bytes further on than this element's.
  int loadLow(const ElementTypeInfo &t, const std::byte *block, int64_t bytes) const {
    const int q = byteAt(block, low + bytes);
    return t.quantBits == 8 ? static_cast<int8_t>(q) : q >> lowShift & 15;
  }
  /// The others, in their place above.
  int loadHigh(const ElementTypeInfo &t, const std::byte *block, int64_t bytes) const {
    return (byteAt(block, high + bytes) >> highShift & ((1 << t.highBits()) - 1)) << 4;
  }
  void store(std::byte *block, int q) const {
    if (high < 0) {
      block[low] |= static_cast<std::byte>(q << lowShift);
      return;
    }
    block[low] |= static_cast<std::byte>((q & 15) << lowShift);
    block[high] |= static_cast<std::byte>(q >> 4 << highShift);
  }

private:
  int64_t low = 0, high = -1; ///< bytes
  int lowShift = 0, highShift = 0;
};

int loadSixBits(const std::byte *subScales, int64_t subBlock, bool isMin) {
  const SixBits place = sixBits(subBlock, isMin);
  return static_cast<int>((byteAt(subScales, place.low) >> place.lowShift & place.lowMask) |
                          (byteAt(subScales, place.high) >> 2 & place.highMask));
}

/// Stores into bits that are zero.
void storeSixBits(std::byte *subScales, int64_t subBlock, bool isMin, int value) {
  const SixBits place = sixBits(subBlock, isMin);
  subScales[place.low] |= static_cast<std::byte>((value & place.lowMask) << place.lowShift);
  subScales[place.high] |= static_cast<std::byte>((value & place.highMask) << 2);
}

struct ScaleAndMin {
  float scale = 0, minimum = 0;
};

/// Those of a sub-block.
ScaleAndMin loadScale(const ElementTypeInfo &t, const std::byte *block, int64_t subBlock) {
  const float d = halfToFloat(load<uint16_t>(block + t.scaleOffset));
  const float m = t.hasMin() ? halfToFloat(load<uint16_t>(block + t.minOffset)) : 0.0f;
  const std::byte *subScales = block + t.subScalesOffset;
  switch (t.subScales) {
  case SubScales::None:
    return {d, m};
  case SubScales::Signed8:
    return {d * static_cast<float>(static_cast<int8_t>(byteAt(subScales, subBlock))), 0.0f};
  case SubScales::Packed6:
    return {d * static_cast<float>(loadSixBits(subScales, subBlock, false)),
            -(m * static_cast<float>(loadSixBits(subScales, subBlock, true)))};
  }
  return {};
}

/// Of a type known when this is compiled, in runs of elements whose low bits stand alike: plain
/// loops, which compilers turn into vector code.
template <ElementType type> void dequantizeBlock(const std::byte *block, float *out) {
  constexpr const ElementTypeInfo &t = table[static_cast<size_t>(type)];
  constexpr int64_t run = 16;
  static_assert(t.subElements % run == 0 && t.chunkElements % (2 * run) == 0);
  for (int64_t first = 0; first < t.blockElements; first += run) {
    const ScaleAndMin s = loadScale(t, block, first / t.subElements);
    const QuantPlace place(t, first);
    std::array<int, run> quants;
    for (int64_t i = 0; i < run; ++i)
      quants[i] = place.loadLow(t, block, i);
    if constexpr (t.highStep >= run) {
      for (int64_t i = 0; i < run; ++i)
        quants[i] |= place.loadHigh(t, block, i);
    } else if constexpr (t.hasHighs()) {
      for (int64_t i = 0; i < run; ++i)
        quants[i] |= QuantPlace(t, first + i).loadHigh(t, block, 0);
    }
    for (int64_t i = 0; i < run; ++i) {
      // Two statements, so that no compiler contracts them to a fused multiply-add.
      const float scaled = static_cast<float>(quants[i] - t.zero) * s.scale;
      out[first + i] = t.hasMin() ? scaled + s.minimum : scaled;
    }
  }
}

template <ElementType type>
void dequantizeBlocks(const std::byte *row, uint64_t elements, float *out) {
  const ElementTypeInfo &t = info(type);
  for (uint64_t i = 0; i < elements; i += t.blockElements, row += t.blockBytes)
    dequantizeBlock<type>(row, out + i);
}

/// The scale and offset of ggml's reference quantizers, of blocks whose bytes are zero. With a
/// minimum, the range [min, max] is cut into 2^bits - 1 steps; with a zero point, the value of
/// largest magnitude becomes quant 0; otherwise the largest magnitude becomes the largest signed
/// quant.
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

  for (int64_t j = 0; j < t.blockElements; ++j) {
    const float scaled = (in[j] - subtract) * inverse;
    QuantPlace(t, j).store(block, t.quantBits == 8
                                      ? truncateInto(std::round(scaled), -(top / 2), top / 2)
                                      : truncateInto(scaled + bias, 0, top));
  }
}

/// Scale and minimum for a sub-block's values by weighted least squares: for each of a range of
/// step widths around the plain one the values are rounded to quants, then the scale and minimum
/// that fit these quants best are computed; the best of all is taken. Large values weigh more. A
/// minimum is at most 0.
ScaleAndMin fitSubBlock(const ElementTypeInfo &t, const float *in) {
  const int64_t count = t.subElements;
  float low = 0.0f, high = 0.0f, largest = 0.0f, squares = 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    low = std::fmin(low, in[i]);
    high = std::fmax(high, in[i]);
    largest = std::fabs(in[i]) > std::fabs(largest) ? in[i] : largest;
    squares += in[i] * in[i];
  }
  const int top = (1 << t.quantBits) - 1 - t.zero; // quants are -zero .. top
  const float steps = static_cast<float>(t.hasMin() ? top : -t.zero);
  const float width = t.hasMin() ? high - low : largest;
  const float floorWeight = std::sqrt(squares / static_cast<float>(count));
  ScaleAndMin best{width / steps, t.hasMin() ? low : 0.0f};
  float leastError = std::numeric_limits<float>::infinity();
  for (int candidate = -10; candidate <= 10; ++candidate) {
    const float inverse = (steps + 0.1f * static_cast<float>(candidate)) / width;
    // Sums over the elements.
    float w1 = 0, wq = 0, wqq = 0, wx = 0, wqx = 0, wxx = 0;
    for (int64_t i = 0; i < count; ++i) {
      const float x = in[i], w = floorWeight + std::fabs(x);
      const float scaled = std::round((t.hasMin() ? x - low : x) * inverse);
      const auto q = static_cast<float>(truncateInto(scaled, -t.zero, top));
      w1 += w;
      wq += w * q;
      wqq += w * q * q;
      wx += w * x;
      wqx += w * q * x;
      wxx += w * x * x;
    }
    ScaleAndMin fit{wqx / wqq, 0.0f};
    if (const float determinant = w1 * wqq - wq * wq; t.hasMin() && determinant > 0) {
      const ScaleAndMin both{(w1 * wqx - wx * wq) / determinant,
                             (wqq * wx - wq * wqx) / determinant};
      if (both.minimum <= 0)
        fit = both;
    }
    const float error = wxx - 2 * fit.scale * wqx - 2 * fit.minimum * wx +
                        fit.scale * fit.scale * wqq + 2 * fit.scale * fit.minimum * wq +
                        fit.minimum * fit.minimum * w1;
    if (error < leastError) {
      leastError = error;
      best = fit;
    }
  }
  return best;
}

/// A block of sub-blocks: each is fitted by itself, then the scales (and minima) are quantized to
/// what d (and m) times a sub-scale can be, and the values to those.
void quantizeSubBlocks(const ElementTypeInfo &t, const float *in, std::byte *block) {
  std::array<ScaleAndMin, 16> fits;
  const int64_t count = t.blockElements / t.subElements;
  assert(count <= static_cast<int64_t>(fits.size()));
  float largest = 0.0f, lowest = 0.0f;
  for (int64_t s = 0; s < count; ++s) {
    fits[s] = fitSubBlock(t, in + s * t.subElements);
    if (std::fabs(fits[s].scale) > std::fabs(largest))
      largest = fits[s].scale;
    lowest = std::fmin(lowest, fits[s].minimum);
  }
  const bool isSigned = t.subScales == SubScales::Signed8;
  const float d = largest / (isSigned ? -128.0f : 63.0f), m = -lowest / 63.0f;
  std::byte *subScales = block + t.subScalesOffset;
  store(block + t.scaleOffset, floatToHalf(d));
  if (t.hasMin())
    store(block + t.minOffset, floatToHalf(m));
  for (int64_t s = 0; s < count; ++s) {
    const float sc = d != 0.0f ? std::round(fits[s].scale / d) : 0.0f;
    const float mn = m != 0.0f ? std::round(-fits[s].minimum / m) : 0.0f;
    if (isSigned) {
      store(subScales + s, static_cast<int8_t>(truncateInto(sc, -128, 127)));
    } else {
      storeSixBits(subScales, s, false, truncateInto(sc, 0, 63));
      storeSixBits(subScales, s, true, truncateInto(mn, 0, 63));
    }
    const ScaleAndMin stored = loadScale(t, block, s);
    const float inverse = stored.scale != 0.0f ? 1.0f / stored.scale : 0.0f;
    for (int64_t i = s * t.subElements; i < (s + 1) * t.subElements; ++i) {
      const float scaled = std::round((in[i] - stored.minimum) * inverse);
      QuantPlace(t, i).store(
          block, truncateInto(scaled + static_cast<float>(t.zero), 0, (1 << t.quantBits) - 1));
    }
  }
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
  case ElementType::Q4_0:
    return dequantizeBlocks<ElementType::Q4_0>(row, elements, out);
  case ElementType::Q4_1:
    return dequantizeBlocks<ElementType::Q4_1>(row, elements, out);
  case ElementType::Q5_0:
    return dequantizeBlocks<ElementType::Q5_0>(row, elements, out);
  case ElementType::Q8_0:
    return dequantizeBlocks<ElementType::Q8_0>(row, elements, out);
  case ElementType::Q4_K:
    return dequantizeBlocks<ElementType::Q4_K>(row, elements, out);
  case ElementType::Q6_K:
    return dequantizeBlocks<ElementType::Q6_K>(row, elements, out);
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
    for (uint64_t i = 0; i < elements; i += t.blockElements, row += t.blockBytes) {
      std::memset(row, 0, t.blockBytes);
      t.hasSubScales() ? quantizeSubBlocks(t, in + i, row) : quantizeBlock(t, in + i, row);
    }
  }
}

} // namespace kernelforge
