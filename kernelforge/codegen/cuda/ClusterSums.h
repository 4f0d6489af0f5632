// Sums of one tile that the blocks of a cluster have parts of: each multiplied a piece of the
// depth.
#pragma once

#include "kernelforge/codegen/cuda/Accumulators.h"

namespace kernelforge::cuda {

/// Adds the parts up, in the order of the blocks' ranks, so that the result does not depend on who
/// comes first. Each block gets the sums of its share of every segment's columns.
class ClusterSums {
public:
  /// `memory`: an address that nothing uses any more when the consumers have met, of bytesOf().
  /// `segments`: parts of the columns that each are shared out among `blocks` blocks.
  ClusterSums(simt::PhaseBuilder &p, const Roles &roles, const MatrixShape &shape,
              int64_t consumers, int64_t segments, int64_t blocks, mlir::Value memory);

  /// Bytes of the parts of a block.
  static int64_t bytesOf(const MatrixShape &shape, int64_t consumers) {
    return consumers * warpgroup * shape.sums() * int64_t(sizeof(float));
  }

  mlir::Value rank; ///< i32: of this block in its cluster

  /// The sums of this block's columns, from the parts that every consumer thread has: numbered as
  /// those of a product of as many columns. Where `isNeeded` (i1, the same in all blocks) does not
  /// hold, zeros; null: it does.
  llvm::SmallVector<mlir::Value> join(mlir::ValueRange parts, mlir::Value isNeeded);
  /// At the end, after a join: a block stays until all have read its parts.
  void leave() { assembly.waitCluster(); }

private:
  llvm::SmallVector<mlir::Value> addedUp(mlir::Value memory);

  simt::PhaseBuilder &p;
  Assembly assembly;
  MatrixShape shape;
  int64_t threads, segments, blocks;
  mlir::Value memory;
};

} // namespace kernelforge::cuda
