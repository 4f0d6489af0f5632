// How the rows of a key/value cache lie in memory: whoever knows bytes of a slot has them from
// here.
#pragma once

#include "kernelforge/support/ElementType.h"

#include <cstddef>
#include <cstdint>
#include <optional>

namespace kernelforge {

/// One slot of a cache: `heads` heads of `dim` values each. Plain numbers follow each other. Of a
/// quantized type (q8_0) all quants come first, a byte each, then the scales of all blocks, f16,
/// filled up to a whole 32-bit word; a block never spans two heads.
struct CacheSlot {
  ElementType type = ElementType::F32;
  int64_t heads = 0;
  int64_t dim = 0; ///< a multiple of the type's block

  int64_t elements() const { return heads * dim; }
  bool isQuantized() const { return info(type).isQuantized(); }
  /// Bytes of a number, or of a quant.
  int64_t elementBytes() const { return isQuantized() ? 1 : info(type).blockBytes; }
  /// From a head's numbers or quants to the next head's.
  int64_t headBytes() const { return dim * elementBytes(); }
  /// Where a quantized slot's scales begin; that of a block is `scaleBytes` times its number on.
  int64_t scalesBegin() const { return elements(); }
  static constexpr int64_t scaleBytes = 2;
  /// From a slot to the next; INT64_MAX where that overflows.
  int64_t bytes() const;
  /// Bytes of so many slots; nothing where they overflow or a head is no whole number of blocks.
  std::optional<uint64_t> checkedBytes(uint64_t slots) const;

  /// Stores all heads of a slot, rounded as quantizeRow() does it.
  void write(const float *values, std::byte *slot) const;
  /// One head of a slot as f32, as dequantizeRow() expands it.
  void read(const std::byte *slot, int64_t head, float *values) const;
};

} // namespace kernelforge
