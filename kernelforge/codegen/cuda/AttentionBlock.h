// A block that computes attention by matrix units: what its roles share, and those that do not
// multiply.
#pragma once

#include "kernelforge/codegen/cuda/AttentionSeen.h"

namespace kernelforge::cuda::attention {

/// A phase under construction: shared memory, rings, maps, tiles.
class TileBlock {
public:
  TileBlock(mlir::ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
            llvm::StringRef entry);

  simt::PhaseBuilder p;
  PhaseMemory memory;
  Assembly assembly;
  Roles roles;
  transformer::AttentionOp op;
  const Shape &shape;

private:
  /// An address in the small piece of shared memory.
  mlir::Value takeSmall(int64_t bytes);
  Ring ringOf(int64_t stages, const HeadTile &tile);

  mlir::Value small;
  int64_t smallTaken = 0;
  mlir::Value records, wanted; ///< addresses; the second of a barrier

public:
  Ring query, keys, values;
  mlir::Value panels; ///< address of all warpgroups' panels
  SeenKeys seen;
  mlir::Value isFirstLane, rowTiles, tiles;

  /// Goes on as long as the first of what `before` gives holds; `body` gets the rest.
  using Values = llvm::SmallVector<mlir::Value>;
  Values whileLoop(mlir::ValueRange init, llvm::function_ref<Values(mlir::ValueRange)> before,
                   llvm::function_ref<Values(mlir::ValueRange)> body);

  /// Emits the phase; `consume` is what each warpgroup does that multiplies.
  Phase emit(llvm::function_ref<void()> consume);

private:
  void makeMaps();
  // One warp says which tile is next and what its rows see, another one copies.
  void plan();
  /// Whose a tile is: rows of one query head.
  struct Place {
    mlir::Value head, firstRow;
  };
  Place placeOf(mlir::Value tile);
  RingPlace planTile(mlir::Value tile, const RingPlace &place);
  void copy();
  Values copyRecord(mlir::Value record, mlir::Value head, mlir::ValueRange carried);
  void copyQuery(mlir::Value record, mlir::Value head, const RingPlace &queryPlace);
  void copyBlock(Ring &ring, const RingPlace &place, const HeadTile &tile, mlir::Value map,
                 mlir::Value head, mlir::Value slot);

  mlir::Value queryMap, keyMap, valueMap;
};

} // namespace kernelforge::cuda::attention
