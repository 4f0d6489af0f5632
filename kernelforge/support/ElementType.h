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

enum class ElementType : uint8_t { F32, F16, BF16, I32, Q4_0, Q4_1, Q5_0, Q8_0, Q4_K, Q6_K };

/// Factors of a block's scale, and of its minimum, for each of its sub-blocks.
enum class SubScales : uint8_t {
  None,    ///< the block's scale and minimum are those of its elements
  Signed8, ///< a signed byte for each sub-block; no minima
  Packed6, ///< six bits for each of eight sub-blocks' scale and six for its minimum: see sixBits()
};

/// The parts of a block in the order in which the interleaved layout has them. Each is a run of
/// units, of which the layout puts those of several rows side by side: halves (the block's scale
/// and minimum) or 32-bit words (all others).
enum class BlockPart : uint8_t { Scale, Min, SubScales, Highs, Quants };
inline constexpr std::array<BlockPart, 5> blockParts = {
    BlockPart::Scale, BlockPart::Min, BlockPart::SubScales, BlockPart::Highs, BlockPart::Quants};

/// How elements of a type lie in a row. Plain numbers are blocks of one element.
/// A quantized block holds `blockElements` values of one row, in sub-blocks of `subElements` with
/// one scale and one minimum:
///     value = (q - zero) * scale + minimum
/// Without sub-scales these are d and m (0 where there is none); with them, sc and mn of each
/// sub-block make scale = d * sc and minimum = - m * mn. d and m are IEEE f16 at their offsets.
/// Quants of 8 bits are signed bytes. Of smaller ones the low four bits are nibbles: in the bytes
/// of each `chunkElements` elements, byte j holds element j low and element j + chunkElements / 2
/// high. The other bits of the quant are at `highsOffset`: 8 / highBits() elements share a byte
/// (the first one its low bits), and these are `highStep` elements apart. All little-endian (ggml's
/// layout).
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
  int quantsOffset = -1; ///< of the quants' low four bits, or all eight
  int64_t chunkElements = 32;
  int highsOffset = -1; ///< of the quants' other bits; -1: none
  int64_t highStep = 0;
  SubScales subScales = SubScales::None;
  int subScalesOffset = -1;
  int64_t subElements = 32;

  constexpr bool isQuantized() const { return quantBits != 0; }
  constexpr bool hasMin() const { return minOffset >= 0; }
  constexpr bool hasHighs() const { return highsOffset >= 0; }
  constexpr bool hasSubScales() const { return subScales != SubScales::None; }
  /// Bits of a quant that stand with its chunk, and those that do not.
  constexpr int lowBits() const { return quantBits == 8 ? 8 : 4; }
  constexpr int highBits() const { return quantBits - lowBits(); }

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
    case BlockPart::Min:
      return 2;
    case BlockPart::SubScales:
      return subScales == SubScales::Packed6 ? 12 : blockElements / subElements;
    case BlockPart::Highs:
      return blockElements * highBits() / 8;
    case BlockPart::Quants:
      return blockElements * lowBits() / 8;
    }
    return 0;
  }
  static constexpr int64_t unitBytes(BlockPart part) {
    return part == BlockPart::Scale || part == BlockPart::Min ? 2 : 4;
  }
  /// Bytes of all parts that stand before `part` in the interleaved layout, of one row.
  constexpr int64_t bytesBefore(BlockPart part) const {
    int64_t sum = 0;
    for (BlockPart other : blockParts)
      sum += other < part ? bytes(other) : 0;
    return sum;
  }
};

/// How Packed6 has its 16 numbers in 12 bytes: the scale of sub-block j (0 .. 7) is
///     (s[low] >> lowShift & lowMask) | (s[high] >> 2 & highMask),
/// and so is its minimum, in other bytes.
struct SixBits {
  int64_t low, lowShift, lowMask, high, highMask;
};
constexpr SixBits sixBits(int64_t subBlock, bool isMin) {
  // The first four have a byte's low six bits; the others four bits of a later byte below the two
  // bits that the first four left.
  const int64_t later = subBlock / 4, first = subBlock % 4 + (isMin ? 4 : 0);
  return {later ? 8 + subBlock % 4 : first, later && isMin ? 4 : 0, later ? 15 : 63, first,
          later ? 48 : 0};
}

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

/// IEEE half and bfloat16 to f32, exact.
float halfToFloat(uint16_t bits);
float bfloat16ToFloat(uint16_t bits);

/// f32 to IEEE half and bfloat16, rounded to nearest even.
uint16_t floatToHalf(float value);
uint16_t floatToBfloat16(float value);

/// Expands one row of `elements` values at `row` (any alignment) to f32. Exact for plain numbers;
/// for quantized types the f32 result of (q - zero) * scale + minimum with one rounding per
/// operation, those that make scale and minimum included.
void dequantizeRow(ElementType type, const std::byte *row, uint64_t elements, float *out);

/// Quantizes one row; `elements` is a multiple of the block. Types without sub-scales by ggml's
/// reference rules (round to nearest within the block's range). Types with them by a search of our
/// own after the same idea, weighted least squares over a range of step widths: other bytes than
/// ggml's, errors within a few per cent of its. Plain types are converted.
void quantizeRow(ElementType type, const float *in, uint64_t elements, std::byte *row);

} // namespace kernelforge
