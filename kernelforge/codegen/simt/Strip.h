// What follows a matmul, computed from a tile of its results that lies in workgroup memory: all
// threads share out its elements, four columns of a row at a time where they can.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/simt/Epilogue.h"

namespace kernelforge::simt {

/// Results of a matmul's segments, without bias, in workgroup memory: of f32, or vectors of four
/// f32 or words with their bits. Element (r, c) of the group's segment s is number `begin + s *
/// segmentStride + r * rowStride + c`.
struct Strip {
  mlir::Value memory;
  mlir::Value begin; ///< i32: a multiple of four
  int64_t rows = 0, cols = 0;
  int64_t rowStride = 0, segmentStride = 0; ///< multiples of four where `cols` is one
  mlir::Value firstRow, firstCol;           ///< of the results, i32
  /// Columns of the results are `firstCol` and those after it; or half of them, and from so many
  /// columns further on the other half: halves of heads that are rotated.
  int64_t apart = 0;
  /// An element is the sum of so many, `partStride` further on each.
  int64_t parts = 1, partStride = 0;
};

/// Reads what operations after a matmul combine with its results, for a strip of no more than one
/// quad or element a thread, which is at the position that is given back: rows where all operations
/// are elementwise, and positions. storeStrip() with the same `rows`, by threads that this came to,
/// uses what was read. Nothing, for larger strips and other operations.
std::optional<Position> readAhead(PhaseBuilder &p, RowExpressions &rows,
                                  transformer::MatmulOp matmul, const SegmentGroup &group,
                                  const Strip &strip, mlir::Value totalRows);

/// Then reads the angles of rotations, which wait for the positions.
void readAngles(RowExpressions &rows, const SegmentGroup &group, const Position &position);

/// Computes and stores what a group's sinks need for all elements of a strip that are elements of
/// the results: rows from `totalRows` and columns from the group's `n` on are passed over. All
/// threads of the block come here after a barrier that makes the strip visible. The strip is read
/// only.
void storeStrip(PhaseBuilder &p, RowExpressions &rows, transformer::MatmulOp matmul,
                const SegmentGroup &group, const Strip &strip, mlir::Value totalRows);

/// Columns that a strip's `cols` (with `apart`, together with the columns between) must be a
/// multiple of, so that heads which an epilogue rotates or norms, and blocks of quantized caches,
/// are whole.
int64_t wholeColumns(const SegmentGroup &group);

} // namespace kernelforge::simt
