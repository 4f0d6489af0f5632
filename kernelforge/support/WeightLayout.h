// How weight matrices lie in memory: which layouts there are, and where each byte of a block is in
// them. The IR's layout, the reference packing and the code generators all follow it.
#pragma once

#include "kernelforge/support/ElementType.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace kernelforge {

enum class WeightLayout : uint8_t {
  RowMajor,    ///< as in the file
  Interleaved, ///< groups of 16 rows, a unit of each beside those of the others
  Planes,      ///< of quantized types: each part of a block in a plane of its own
};

/// Rows of a group of the interleaved layout.
inline constexpr int64_t interleavedRows = 16;

/// Elements of a row that lie side by side in the interleaved layout of plain numbers: two of bf16,
/// which instructions multiply by twos, where rows are whole pairs; otherwise one.
constexpr int64_t interleavedRun(ElementType type, int64_t width) {
  return type == ElementType::BF16 && width % 2 == 0 ? 2 : 1;
}

/// Elements of a row that follow one another in planes and have one scale.
inline constexpr int64_t runElements = 16;

/// Planes begin at multiples of so many bytes, and so does what follows the last one.
inline constexpr int64_t planeAlignment = 16;

/// "row_major", "interleaved", "planes".
std::string_view nameOf(WeightLayout layout);

/// By that name; nothing where it is not known.
std::optional<WeightLayout> weightLayoutByName(std::string_view name);

/// Bytes of `rows` rows of `width` elements in a layout that takes the type; nothing where a row is
/// no whole number of blocks or the size overflows.
std::optional<uint64_t> layoutBytes(WeightLayout layout, ElementType type, uint64_t rows,
                                    uint64_t width);

/// One part of all blocks of a weight: block after block of a row, row after row.
struct Plane {
  BlockPart part;  ///< Scale: with the minimum behind it, or sub-scales that are no whole words
  int64_t offset;  ///< of the part in a block of the file
  int64_t bytes;   ///< of a block
  int64_t begin;   ///< of the plane, in bytes
  int64_t content; ///< bytes of all blocks
};

/// The planes of a weight of a quantized type, in the order in which they lie: quants, high bits,
/// sub-scales, scales; those that the type has.
class Planes {
public:
  /// Of a weight whose bytes do not overflow (layoutBytes).
  Planes(ElementType type, int64_t rows, int64_t width);

  /// Not of what is gone before they are looked at.
  std::span<const Plane> all() const & { return {planes.data(), count}; }
  std::span<const Plane> all() const && = delete;
  /// The plane of a part that the type has, Min's being that of Scale, as that of sub-scales may
  /// be.
  const Plane &of(BlockPart part) const;
  /// Of the whole weight.
  int64_t bytes() const { return end; }

private:
  std::array<Plane, 4> planes{};
  size_t count = 0;
  int64_t end = 0;
  bool subScalesBesideScale = false;
};

} // namespace kernelforge
