// Weight matrices in their layouts: row-major as in the file, interleaved for kernels that work on
// 16 output columns at once, or in planes for those that read 16 bytes at a time. Reads and writes
// all of them; the code generators follow the same bytes.
#pragma once

#include "kernelforge/support/WeightLayout.h"

#include <cstddef>
#include <cstdint>

namespace kernelforge {

/// A weight matrix of `rows` x `width` elements. A row is a whole number of blocks; `data` may have
/// any alignment. Not owned.
struct WeightView {
  ElementType type = ElementType::F32;
  const std::byte *data = nullptr;
  int64_t rows = 0;
  int64_t width = 0;
  WeightLayout layout = WeightLayout::RowMajor;

  /// Expands row `row` into `width` values at `out`, as dequantizeRow does.
  void readRow(int64_t row, float *out) const;
};

/// Brings the row-major `rows` ([n, k] elements of `type`) into the interleaved layout at `out`,
/// which takes the bytes of n rounded up to 16 rows. Parallel over groups.
///
/// Group after group of 16 rows (rows beyond n are zero); in a group, block after block along k;
/// in a block part after part (BlockPart): the 16 rows' d, then their m where the type has minima,
/// then sub-scales, high bits and quants, in units of 32-bit words where the part is a whole number
/// of them (ElementTypeInfo::unitBytes): word w of row 0 .. 15 is bytes 4w .. 4w + 3 of that row's
/// part. A plain type is a block of one element, [n / 16][k][16], or of interleavedRun() of them,
/// [n / 16][k / 2][16][2].
void packInterleaved(ElementType type, const std::byte *rows, int64_t n, int64_t k, std::byte *out);

/// Brings the row-major `rows` ([n, k] elements of a quantized `type`) into planes at `out`, which
/// takes layoutBytes: plane after plane (Planes), the bytes between them zero. Parallel over rows.
void packPlanes(ElementType type, const std::byte *rows, int64_t n, int64_t k, std::byte *out);

/// One of these, or a copy.
void packWeight(WeightLayout layout, ElementType type, const std::byte *rows, int64_t n, int64_t k,
                std::byte *out);

} // namespace kernelforge
