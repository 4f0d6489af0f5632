// Attention of many rows by the matrix units of a warpgroup: what schedules and emitter agree on.
#pragma once

#include "kernelforge/codegen/cuda/Accumulators.h"
#include "kernelforge/codegen/simt/AttentionFacts.h"

namespace kernelforge::cuda::attention {

/// A checked schedule of the method `matrices`, and what it is for. A block computes tiles of rows
/// of one query head, 64 rows by each of its warpgroups.
struct Shape {
  simt::AttentionFacts facts;
  ElementType element = ElementType::BF16; ///< that is multiplied
  int64_t page = 0;                        ///< slots of a page; 0: the cache is contiguous
  bool hasWindow = false;
  bool roundsQuery = false; ///< by a phase of its own, into workspace 0

  int64_t rows = 128;   ///< of a tile
  int64_t keys = 128;   ///< of a block
  int64_t stages = 2;   ///< blocks of keys, and of values, in shared memory
  int64_t heads = 1;    ///< query heads whose tiles are taken together
  int64_t blocks = 132; ///< of the grid, at most

  int64_t consumers() const { return rows / MatrixShape::rows; }
  HeadTile queryTile() const { return {rows, facts.keyDim}; }
  HeadTile keyTile() const { return {keys, facts.keyDim}; }
  HeadTile valueTile() const { return {keys, facts.valueDim}; }
  MatrixShape scores() const { return {element, keys, false}; }
  MatrixShape outputs() const { return {element, facts.valueDim, true}; }
  /// Keys that one copy moves: they follow one another in memory.
  int64_t copiedKeys() const;
  // Shared memory: what is small, on one piece of it, then tiles and panels of results.
  int64_t recordBytes() const; ///< of what is said of a tile's keys
  static constexpr int64_t recordStages = 2;
  int64_t smallBytes() const;
  int64_t resultBytes() const { return consumers() * ResultPanels::panel.bytes(); }
  int64_t sharedBytes() const;

  /// Workspaces: the query as it is multiplied, if it is rounded, then the number of the next tile.
  int queryWorkspace() const { return 0; }
  int counterWorkspace() const { return roundsQuery ? 1 : 0; }
};

/// The phase that writes the query as it is multiplied.
Phase emitQuery(mlir::ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                llvm::StringRef entry);

/// The attention itself.
Phase emitTiles(mlir::ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                llvm::StringRef entry);

} // namespace kernelforge::cuda::attention
