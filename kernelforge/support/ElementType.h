// The one table of element types: plain numbers and quantized blocks. Loaders, the IR's quantized
// type, the reference kernels and the code generators all read it, so a new block format that fits
// the scheme below is one more row.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace kernelforge {

enum class ElementType : uint8_t {
  F32,
  F16,
  BF16,
  I32,
  Q4_0,
  Q4_1,
  Q5_0,
  Q5_1,
  Q8_0,
  Q2_K,
  Q3_K,
  Q4_K,
  Q5_K,
  Q6_K,
  IQ4_NL,
  IQ4_XS,
  MXFP4,
  F8_E4M3, ///< no format of a file: made of a tensor of FP8 and its scales when a model is loaded
};

/// How a block's scale is stored.
enum class ScaleFormat : uint8_t {
  F16,
  F32,
  E8M0, ///< a byte e that stands for 2^(e - 128)
};

/// Factors of a block's scale, and of its minimum, for each of its sub-blocks: whole numbers. Where
/// those of fewer than eight bits lie is subScalePlace().
enum class SubScales : uint8_t {
  None,    ///< the block's scale and minimum are those of its elements
  Signed8, ///< a signed byte for each sub-block; no minima
  Packed4, ///< four bits for each sub-block's scale and four for its minimum
  Packed6, ///< six bits for each of eight sub-blocks' scale and six for its minimum
  Shared6, ///< six bits less 32 for each of sixteen sub-blocks; no minima
  Split6,  ///< six bits less 32 for each of eight sub-blocks; no minima
};

/// The parts of a block in the order in which the interleaved layout has them. Each is a run of
/// units, of which the layout puts those of several rows side by side.
enum class BlockPart : uint8_t { Scale, Min, SubScales, Highs, Quants };
inline constexpr std::array<BlockPart, 5> blockParts = {
    BlockPart::Scale, BlockPart::Min, BlockPart::SubScales, BlockPart::Highs, BlockPart::Quants};

/// How elements of a type lie in a row. Plain numbers are blocks of one element.
/// A quantized block holds `blockElements` values of one row, in sub-blocks of `subElements` with
/// one scale and one minimum:
///     value = value(q) * scale + minimum, where value(q) is q - zero, or what `values` has for q
/// Without sub-scales these are d and m (0 where there is none); with them, sc and mn of each
/// sub-block make scale = d * sc and minimum = - m * mn. d is of `scaleFormat`, m IEEE f16.
/// Quants of 8 bits are signed bytes, or numbers e4m3. Of smaller ones the low two or four bits
/// stand in fields of bytes: in those of each `chunkElements` elements, field f of byte j holds
/// element j + f * fieldElements(), the first field the byte's low bits. The other bits of the
/// quant are at `highsOffset`: 8 / highBits() elements share a byte (the first one its low bits),
/// and these are `highStep` elements apart. All little-endian (ggml's layout).
struct ElementTypeInfo {
  ElementType type;
  std::string_view name; ///< as printed in IR, on the command line and in JSON
  int ggmlId;            ///< type id in a GGUF file; -1 where it has none
  int64_t blockElements;
  int64_t blockBytes;
  int quantBits = 0;     ///< 0 for plain numbers
  int zero = 0;          ///< subtracted from the stored quant
  int scaleOffset = -1;  ///< of d, in bytes from the block's start
  int minOffset = -1;    ///< of m; -1: no minimum
  int quantsOffset = -1; ///< of the quants' low bits, or all eight
  int64_t chunkElements = 32;
  int highsOffset = -1; ///< of the quants' other bits; -1: none
  int64_t highStep = 0;
  SubScales subScales = SubScales::None;
  int subScalesOffset = -1;
  int64_t subElements = 32;
  ScaleFormat scaleFormat = ScaleFormat::F16;
  const std::array<int8_t, 16> *values = nullptr; ///< of quants; null: they are q - zero
  bool isE4M3 = false;                            ///< quants are numbers e4m3

  constexpr bool isQuantized() const { return quantBits != 0; }
  /// Whether what scales are multiplied with are whole numbers.
  constexpr bool hasIntegers() const { return isQuantized() && !isE4M3; }
  constexpr bool hasMin() const { return minOffset >= 0; }
  constexpr bool hasHighs() const { return highsOffset >= 0; }
  constexpr bool hasSubScales() const { return subScales != SubScales::None; }
  /// Whether what scales are multiplied with are signed bytes, as they are stored or in `values`.
  constexpr bool hasSignedBytes() const { return hasIntegers() && (quantBits == 8 || values); }
  /// Of a quant of fewer than eight bits; of one of eight that is a signed byte.
  constexpr int value(int q) const { return values ? (*values)[static_cast<size_t>(q)] : q - zero; }
  /// The largest magnitude of a quant's value, and a bound of that of stored quants.
  constexpr int largestValue() const {
    if (!values)
      return quantBits == 8 ? 128 : (1 << quantBits) - 1;
    int largest = 0;
    for (const int x : *values)
      largest = x > largest ? x : -x > largest ? -x : largest;
    return largest;
  }
  /// Bits of a quant that stand with its chunk, and those that do not.
  constexpr int lowBits() const { return quantBits == 8 ? 8 : quantBits >= 4 ? 4 : 2; }
  constexpr int highBits() const { return quantBits - lowBits(); }
  /// Fields of a byte of quants, and how many elements the fields of a byte are apart.
  constexpr int64_t fields() const { return 8 / lowBits(); }
  constexpr int64_t fieldElements() const { return chunkElements / fields(); }
  constexpr int64_t chunks() const { return blockElements / chunkElements; }
  /// Elements whose high bits share `highStep` bytes: those of a chunk, or of several.
  constexpr int64_t highElements() const { return hasHighs() ? 8 / highBits() * highStep : 0; }

  /// Where a part begins in the block; -1 where the type has none.
  constexpr int offset(BlockPart part) const {
    switch (part) {
    case BlockPart::Scale:
      return scaleOffset;
    case BlockPart::Min:
      return minOffset;
    case BlockPart::SubScales:
      return subScalesOffset;
    case BlockPart::Highs:
      return highsOffset;
    case BlockPart::Quants:
      return quantsOffset;
    }
    return -1;
  }
  /// Bytes of a part, 0 where the type has none, and of each of its units.
  constexpr int64_t bytes(BlockPart part) const {
    if (offset(part) < 0)
      return 0;
    switch (part) {
    case BlockPart::Scale:
      return scaleFormat == ScaleFormat::F32 ? 4 : scaleFormat == ScaleFormat::F16 ? 2 : 1;
    case BlockPart::Min:
      return 2;
    case BlockPart::SubScales:
      return subScales == SubScales::Packed6 || subScales == SubScales::Shared6 ? 12
             : subScales == SubScales::Split6                                   ? 6
                                              : blockElements / subElements;
    case BlockPart::Highs:
      return blockElements * highBits() / 8;
    case BlockPart::Quants:
      return blockElements * lowBits() / 8;
    }
    return 0;
  }
  /// Words, where the part is a whole number of them.
  constexpr int64_t unitBytes(BlockPart part) const {
    return bytes(part) % 4 == 0 ? 4 : bytes(part) % 2 == 0 ? 2 : 1;
  }
  /// Bytes of all parts that stand before `part` in the interleaved layout, of one row.
  constexpr int64_t bytesBefore(BlockPart part) const {
    int64_t sum = 0;
    for (BlockPart other : blockParts)
      sum += other < part ? bytes(other) : 0;
    return sum;
  }
};

/// How sub-scales of fewer than eight bits lie in their part s: the scale of a sub-block is
///     (s[low] >> lowShift & lowMask | (s[high] >> highShift & highMask) << 4) - excess,
/// and so is its minimum, in other bits. Each of these numbers is a sum over the bits of the
/// sub-block's number, which BitSum is.
struct SubScalePlace {
  int64_t low, lowShift, lowMask, high, highShift, highMask;
};
constexpr SubScalePlace subScalePlace(SubScales kind, int64_t subBlock, bool isMin) {
  const int64_t of4 = subBlock % 4, over4 = subBlock / 4;
  switch (kind) {
  case SubScales::None:
  case SubScales::Signed8:
    break;
  case SubScales::Packed4:
    return {subBlock, isMin ? 4 : 0, 15, 0, 0, 0};
  case SubScales::Packed6: {
    // The first four have a byte's low six bits; the others four bits of a later byte below the two
    // bits that the first four left.
    const int64_t first = of4 + (isMin ? 4 : 0);
    return {
        over4 ? 8 + of4 : first, over4 && isMin ? 4 : 0, over4 ? 15 : 63, first, 6, over4 ? 3 : 0};
  }
  case SubScales::Shared6: // the low four bits are nibbles, 8 bytes; the others 4 bytes behind them
    return {subBlock % 8, subBlock / 8 * 4, 15, 8 + of4, 2 * over4, 3};
  case SubScales::Split6: // two bytes with the high bits, then nibbles with the others
    return {2 + subBlock / 2, subBlock % 2 * 4, 15, over4, 2 * of4, 3};
  }
  return {subBlock, 0, 255, 0, 0, 0};
}
constexpr int64_t subScaleExcess(SubScales kind) {
  return kind == SubScales::Shared6 || kind == SubScales::Split6 ? 32 : 0;
}

/// A number that depends on another one, n below 16, as a sum over its bits: base + the factors of
/// those that are set.
struct BitSum {
  int64_t base = 0;
  std::array<int64_t, 4> factors{};

  /// Of a function that is one, of n below `count`, a power of two.
  template <typename Function> static constexpr BitSum of(int64_t count, const Function &function) {
    BitSum sum{function(0), {}};
    for (size_t bit = 0; bit < 4 && int64_t(1) << bit < count; ++bit)
      sum.factors[bit] = function(int64_t(1) << bit) - sum.base;
    return sum;
  }
  constexpr int64_t at(int64_t n) const {
    int64_t sum = base;
    for (size_t bit = 0; bit < 4; ++bit)
      sum += (n >> bit & 1) * factors[bit];
    return sum;
  }
  /// Calls `add(shift, mask, factor)` for each term: (n >> shift & mask) * factor is one of several
  /// bits in a row whose factors double.
  template <typename Add> constexpr void forTerms(const Add &add) const {
    for (size_t bit = 0; bit < 4;) {
      size_t end = bit + 1;
      while (end < 4 && factors[bit] != 0 && factors[end] == 2 * factors[end - 1])
        ++end;
      if (factors[bit] != 0)
        add(static_cast<int64_t>(bit), (int64_t(1) << (end - bit)) - 1, factors[bit]);
      bit = end;
    }
  }
};

/// The whole table, in the order of the enumeration.
std::span<const ElementTypeInfo> elementTypes();

const ElementTypeInfo &info(ElementType type);

/// By the printed name ("q4_1"); nothing where the name is not known.
std::optional<ElementType> elementTypeByName(std::string_view name);

/// By the type id of GGUF; nothing where we do not support it.
std::optional<ElementType> elementTypeByGgmlId(int64_t id);

/// Bytes of a row of `elements` values; nothing where the row is no whole number of blocks or the
/// size overflows.
std::optional<uint64_t> rowBytes(ElementType type, uint64_t elements);

/// IEEE half and bfloat16 to f32, exact; e4m3 (sign, four bits of exponent, three of mantissa;
/// largest 448, no infinities, 0x7f and 0xff are NaN).
float halfToFloat(uint16_t bits);
float bfloat16ToFloat(uint16_t bits);
float e4m3ToFloat(uint8_t bits);

/// f32 to IEEE half and bfloat16, rounded to nearest even.
uint16_t floatToHalf(float value);
uint16_t floatToBfloat16(float value);

/// f32 to e4m3, to nearest even; what is larger becomes the largest number.
uint8_t floatToE4M3(float value);

/// Expands one row of `elements` values at `row` (any alignment) to f32. Exact for plain numbers;
/// for quantized types the f32 result of value(q) * scale + minimum with one rounding per
/// operation, those that make scale and minimum included.
void dequantizeRow(ElementType type, const std::byte *row, uint64_t elements, float *out);

/// Quantizes one row; `elements` is a multiple of the block. Types without sub-scales and tables of
/// values by ggml's reference rules (round to nearest within the block's range). Types with them by
/// a search of our own after the same idea, weighted least squares over a range of step widths:
/// other bytes than ggml's, errors within a few per cent of its. Plain types are converted.
void quantizeRow(ElementType type, const float *in, uint64_t elements, std::byte *row);

} // namespace kernelforge
