// A block of keys or values on its way into workgroup memory: asked for early, stored late.
#pragma once

#include "kernelforge/codegen/simt/AttentionTile.h"
#include "kernelforge/codegen/simt/CacheVectors.h"

namespace kernelforge::simt {

/// How a block of a cache is shared out among the threads of a workgroup. A unit is what a thread
/// stores at once, some pieces of a head that lie side by side.
struct StagePlan {
  int64_t keys = 0;       ///< of a block
  int64_t piecesEach = 1; ///< of a unit
  int64_t units = 0;      ///< of a key
  int64_t threads = 0;

  /// Units of a thread, at most.
  int64_t each() const { return (keys * units + threads - 1) / threads; }
};

/// Blocks of the keys or values of an attention.
class AttentionStage {
public:
  AttentionStage(PhaseBuilder &p, transformer::AttentionOp op, bool areValues, int64_t keys,
                 int64_t piecesEach)
      : p(p), cache(p, op, areValues), areValues(areValues),
        plan{keys, piecesEach, cache.pieces() / piecesEach, p.blockThreads()} {}

  CacheVectors &vectors() { return cache; }

  /// What a thread reads of the block from `base` on, as many values each time. Keys after the last
  /// one are that again. `cacheHead`: which head of a slot.
  llvm::SmallVector<mlir::Value> load(AttentionTile &tile, const TileKeys &seen, mlir::Value base,
                                      mlir::Value cacheHead);

  using Store =
      llvm::function_ref<void(mlir::Value key, mlir::Value unit,
                              llvm::ArrayRef<CacheVectors::Loaded> pieces, mlir::Value isSeen)>;
  /// Lets `store` store each unit of what load() gave. `key`: its number in the block. `isSeen`:
  /// null, or whether any row sees it, where values that none sees must become 0.
  void put(AttentionTile &tile, const TileKeys &seen, mlir::Value base, mlir::ValueRange loaded,
           Store store);

private:
  PhaseBuilder &p;
  CacheVectors cache;
  bool areValues;
  StagePlan plan;
};

} // namespace kernelforge::simt
