// The innermost loops of the hand-written matmul, for each level of vector instructions.
#pragma once

#include "kernelforge/kernels/Processor.h"
#include <cstddef>

#include <cstdint>

namespace kernelforge {

/// Rows of the input that are packed beside each other: a group is [k][tileRows].
inline constexpr int64_t tileRows = 8;

/// Rows of the weight that one pass of the dot products reads side by side.
inline constexpr int64_t dotRows = 8;

/// Loops over one depth of k; `columns` is the width of a packed group of the weight, [k][columns].
struct TileKernels {
  int64_t columns;

  /// c[rows, columns] = (or +=, where `add`) a * b for packed groups a and b; 1 <= rows <=
  /// tileRows.
  void (*tile)(int64_t rows, int64_t k, const float *a, const float *b, float *c, int64_t stride,
               bool add);

  /// Brings `rows` (at most 8) rows of k values, row r at `from + r * fromStride`, into columns of
  /// `to`: value i of row r goes to to[i * toStride + r]. Any alignment.
  void (*transpose)(int64_t rows, int64_t k, const float *from, int64_t fromStride, float *to,
                    int64_t toStride);

  /// sums[r] = dot product of x and row r of `rows`, which are `stride` apart; dotRows of them.
  void (*dot)(int64_t k, const float *x, const float *rows, int64_t stride, float *sums);
};

/// The loops of a level, by default the best that this processor has.
const TileKernels &tileKernels(VectorLevel level = vectorLevel());

} // namespace kernelforge
