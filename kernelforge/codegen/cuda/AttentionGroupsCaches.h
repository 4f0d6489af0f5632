// Keys and values as a warp's matrix units take them from where they lie: 16-bit numbers as they
// are, quants of eight bits as numbers of 16 bits that are the same.
#pragma once

#include "kernelforge/codegen/cuda/AttentionGroups.h"

namespace kernelforge::cuda::groups {

/// A thread of a warp, i32: 4 row + pair.
struct WarpPlace {
  mlir::Value own, row, pair;
};

/// Slot of the key of a step that stands at `offset` and, beyond that, where a thread says.
using SlotOf = llvm::function_ref<mlir::Value(int64_t offset, mlir::Value ofThread)>;

/// Elements of a cache that a step reads, and their scales.
class StepCache {
public:
  StepCache(simt::PhaseBuilder &p, transformer::AttentionOp op, bool areValues,
            const GroupsShape &shape, const WarpPlace &place);

  bool isQuantized() const { return slot.isQuantized(); }

protected:
  /// Where vector `piece` of 16 bytes of a head begins.
  mlir::Value vectorAt(mlir::Value number, mlir::Value piece);
  mlir::Value loadVector(mlir::Value at, llvm::StringRef name);
  /// Words with the scales of two blocks each, of all keys of a step, shared out among the warp.
  llvm::SmallVector<mlir::Value> loadScales(SlotOf slotOf);
  int64_t scaleWords() const { return isQuantized() ? slot.dim / scaledUnit : 0; } ///< of a key
  int64_t scaleLoads() const;
  /// The same as f32: first the lower halves, then the upper ones.
  llvm::SmallVector<mlir::Value> scalesOf(mlir::ValueRange loaded);
  /// Of block `block` of key `offset` + 2 pair.
  mlir::Value scaleOf(llvm::ArrayRef<mlir::Value> scales, int64_t offset, int64_t block);

  static constexpr int64_t scaledUnit = 64; ///< elements of two blocks

  simt::PhaseBuilder &p;
  WarpMatrices matrices;
  CacheSlot slot;
  Factors factors;
  int64_t keys; ///< of a step
  WarpPlace place;
  mlir::Value buffer;

public:
  mlir::Value head; ///< of the cache, i32; to be set before anything is read
};

/// The keys, right operands of products with the query.
class StepKeys : public StepCache {
public:
  StepKeys(simt::PhaseBuilder &p, transformer::AttentionOp op, const GroupsShape &shape,
           const WarpPlace &place)
      : StepCache(p, op, /*areValues=*/false, shape, place) {}

  /// How many values load() gives.
  int64_t loads() const;
  llvm::SmallVector<mlir::Value> load(SlotOf slotOf);
  /// Column of a head from which a thread of a warp has eight of each 32, by their number.
  mlir::Value columnOf(mlir::Value number, mlir::Value pair);
  /// Query times keys: of each eight keys the two of the thread's pair, of the head that is its
  /// row. `query`: 16 bytes of each part, each 32 columns and each thread.
  llvm::SmallVector<mlir::Value> multiply(mlir::Value query, mlir::ValueRange loaded);

private:
  llvm::SmallVector<mlir::Value> multiplyNumbers(mlir::Value query, mlir::ValueRange loaded);
  llvm::SmallVector<mlir::Value> multiplyQuants(mlir::Value query, mlir::ValueRange loaded);
};

/// The values, left operands of products with weights, columns as rows.
class StepValues : public StepCache {
public:
  StepValues(simt::PhaseBuilder &p, transformer::AttentionOp op, const GroupsShape &shape,
             const WarpPlace &place)
      : StepCache(p, op, /*areValues=*/true, shape, place) {}

  int64_t loads() const;
  llvm::SmallVector<mlir::Value> load(SlotOf slotOf);
  /// Adds values times weights to sums: four of each 16 columns. `weights`: as
  /// StepKeys::multiply() gives scores.
  void add(llvm::MutableArrayRef<mlir::Value> sums, llvm::ArrayRef<mlir::Value> weights,
           mlir::ValueRange loaded);
  /// Column of a tile's sums: of its upper or lower rows.
  mlir::Value columnOf(int64_t tile, int64_t lower);

private:
  WarpMatrices::Left leftOf(mlir::ValueRange loaded, int64_t tile, int64_t block);

  /// Columns that threads read at once of plain numbers, and of quants.
  static constexpr int64_t unit = 64, quantUnit = 32;
};

} // namespace kernelforge::cuda::groups
