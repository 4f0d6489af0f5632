// What follows a matmul by matrix units: from the sums that threads have to memory.
#pragma once

#include "kernelforge/codegen/cuda/Matmul.h"
#include "kernelforge/codegen/simt/Epilogue.h"

namespace kernelforge::cuda::matmul {

/// Stores what follows the segments of one group, of the rows and columns of a warpgroup's tile.
/// Panels of columns go through shared memory, columns that fill none are stored by the threads
/// that have them.
class GroupResults {
public:
  /// `panels`: address of the memory of all warpgroups' panels; `rows`: how many there are (i32).
  /// Makes the results' tensor maps.
  GroupResults(simt::PhaseBuilder &p, PhaseMemory &memory, const Roles &roles,
               transformer::MatmulOp matmul, const SegmentGroup &group, const MatrixKnobs &knobs,
               mlir::Value panels, mlir::Value rows);

  /// Why what follows the group cannot be computed from what a thread has; empty where it can, in
  /// tiles of whole heads (headColumns()).
  static std::string obstacle(const SegmentGroup &group);
  /// What the columns of a block's tile must be a multiple of for that.
  static int64_t headColumns(const SegmentGroup &group);

  /// Panels that a tile of the group has, where it has `columns` columns of each segment.
  static int64_t panelsOf(const SegmentGroup &group, int64_t columns);

  /// Stores a tile: `sums` of `columns` columns of each segment, one segment after the other, from
  /// a row and a column on. `isOdd`: some tile of the block has an odd number of panels.
  void store(mlir::ValueRange sums, int64_t columns, mlir::Value firstRow, mlir::Value firstCol,
             bool isOdd);

private:
  struct Tile;

  mlir::Value bufferOf(const Sink &sink);
  bool allRowsAreThere();
  /// Where some columns of the last tile are not there.
  std::optional<int64_t> lastColumn() const;
  bool rowsFollowSize();
  void ifStored(const Sink &sink, mlir::Value row,
                llvm::function_ref<void(mlir::Value start)> store);
  void storePanel(Tile &tile, const Sink &sink, mlir::Value map, int64_t first);
  void copyPanel(ResultPanels &panel, const Sink &sink, mlir::Value map, mlir::Value from,
                 mlir::Value firstRow, mlir::Value firstCol);
  void storeElements(ResultPanels &panel, const Sink &sink, mlir::Value from, mlir::Value firstRow,
                     mlir::Value firstCol);
  void storeBlocks(Tile &tile, const Sink &sink, int64_t first);

  simt::PhaseBuilder &p;
  Assembly assembly;
  const Roles &roles;
  transformer::MatmulOp matmul;
  const SegmentGroup &group;
  const MatrixKnobs &knobs;
  mlir::Value panels, totalRows;
  llvm::SmallVector<mlir::Value> maps; ///< by sink; null: no bulk copy can store
};

} // namespace kernelforge::cuda::matmul
