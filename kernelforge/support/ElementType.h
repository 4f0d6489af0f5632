// The one table of element types: plain numbers and quantized blocks. Loaders, the IR's quantized
// type, the reference kernels and the code generators all read it, so a new block format that fits
// the scheme below is one more row.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace kernelforge {

enum class ElementType : uint8_t { F32, F16, BF16, I32, Q4_0, Q4_1, Q8_0 };

/// How elements of a type lie in a row. Plain numbers are blocks of one element.
/// A quantized block holds `blockElements` values of one row:
///     value = (q - zero) * d + m
/// with d and m in IEEE f16 at their offsets (m is 0 where there is none) and the quants q at
/// `quantsOffset`: bytes (signed) for 8 bits; for 4 bits the low nibble of byte j is element j, the
/// high nibble element j + blockElements / 2. All little-endian (ggml's layout).
struct ElementTypeInfo {
  ElementType type;
  std::string_view name; ///< as printed in IR, on the command line and in JSON
  int ggmlId;            ///< type id in a GGUF file; -1 where it has none
  int64_t blockElements;
  int64_t blockBytes;
  int quantBits;    ///< 0 for plain numbers
  int scaleOffset;  ///< of d, in bytes from the block's start
  int minOffset;    ///< of m; -1: no minimum
  int quantsOffset; ///< of the quants
  int zero;         ///< subtracted from the stored quant

  constexpr bool isQuantized() const { return quantBits != 0; }
  constexpr bool hasMin() const { return minOffset >= 0; }
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

/// IEEE half and bfloat16 to f32, exact.
float halfToFloat(uint16_t bits);
float bfloat16ToFloat(uint16_t bits);

/// f32 to IEEE half and bfloat16, rounded to nearest even.
uint16_t floatToHalf(float value);
uint16_t floatToBfloat16(float value);

/// Expands one row of `elements` values at `row` (any alignment) to f32. Exact for plain numbers;
/// for quantized types the f32 result of (q - zero) * d + m with one rounding per operation.
void dequantizeRow(ElementType type, const std::byte *row, uint64_t elements, float *out);

/// Quantizes one row by ggml's reference rules (round to nearest within the block's range);
/// `elements` is a multiple of the block. Plain types are converted.
void quantizeRow(ElementType type, const float *in, uint64_t elements, std::byte *row);

} // namespace kernelforge
