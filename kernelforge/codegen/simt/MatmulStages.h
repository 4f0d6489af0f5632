// K of a matmul stage by stage: while one is multiplied from workgroup memory, the next is on its
// way in registers.
#pragma once

#include "kernelforge/codegen/simt/MatmulPhases.h"
#include "kernelforge/codegen/simt/MatmulTile.h"

namespace kernelforge::simt::tiles {

/// What a workgroup does for its tile's slice of K.
struct StageLoop {
  PhaseBuilder &p;
  int64_t depth; ///< K
  const TileGrid &grid;
  const Cut &cut;
  llvm::ArrayRef<std::unique_ptr<Tile>> tiles; ///< of the rows, then of each segment's columns
  /// Tiles of the columns of further groups, each in the place of the second tile.
  llvm::ArrayRef<std::unique_ptr<Tile>> others;
  mlir::Value memory;      ///< of the tiles
  int64_t turnVectors = 0; ///< of a stage, where two of them take turns in memory; 0: there is one

  /// Adds the products of the stage that lies in memory from vector `at` (null: 0) on.
  using Multiply =
      llvm::function_ref<void(llvm::MutableArrayRef<mlir::Value> sums, mlir::Value at)>;

  /// The sums after all stages. `names` are theirs, with spaces between.
  llvm::SmallVector<mlir::Value> run(mlir::ValueRange zeros, std::string names, Multiply multiply);

private:
  llvm::SmallVector<mlir::Value> zeros();
  llvm::SmallVector<mlir::Value> fetch(mlir::Value stage, mlir::ValueRange places);
  llvm::SmallVector<mlir::Value> fetchNext(mlir::Value stage, mlir::ValueRange places,
                                           mlir::ValueRange pieces);
  void put(mlir::ValueRange pieces, mlir::ValueRange places, mlir::Value at);
};

} // namespace kernelforge::simt::tiles
