// Attention of some query rows of one sequence to one key/value head, key block by key block, with
// an online softmax. The query heads that share the key/value head are stacked as rows of one tile,
// so that keys and values are read once for all of them.
#pragma once

#include "kernelforge/codegen/cpu/AttentionRows.h"
#include "kernelforge/codegen/cpu/PanelForm.h"

#include <memory>
#include <optional>

namespace kernelforge::cpu::attention {

/// What one kernel's tiles are made for: the operation and its schedule.
struct Shape {
  int64_t heads, kvHeads, group; ///< group: query heads of one key/value head
  int64_t keyDim, valueDim;
  CacheSlot keys, values;
  int64_t page; ///< positions of a page; 0: contiguous
  ElementType query, result;
  double scale, softcap;
  PanelForm form;   ///< how packed keys and values are multiplied
  int64_t keyBlock; ///< keys of one step of the online softmax; a multiple of 16
  int64_t mr, nr;   ///< register tile: rows, vectors
  int64_t prefetch; ///< rows of keys and values fetched ahead; 0: none; 0 where keys are packed
  bool packed;      ///< keys and values are brought into scratch, or (few rows) read where they lie
  int64_t maxRows;  ///< query rows of a tile; 1 where keys are not packed

  /// Stacked rows of a full tile, with the filling of its last register tile.
  int64_t stackedRows() const { return roundUp(maxRows * group, mr); }
  int64_t keyVectors() const { return ceilDiv(keyDim, lanes); }
  int64_t valueVectors() const { return ceilDiv(valueDim, lanes); }
  /// Whether keys and values are brought into scratch as bf16, to be multiplied so; other forms
  /// round f32 where `form` is of bf16.
  bool isMatrices() const { return packed && form.unit != PanelForm::Unit::Floats; }
  bool rounds() const { return form.isBfloat16() && !isMatrices(); }
  /// Bytes of a number of the query, and of the result.
  int64_t queryBytes() const { return info(query).blockBytes; }
  int64_t resultBytes() const { return info(result).blockBytes; }
};

/// Scores of keys without values, one for each query head of a group.
struct Sinks {
  Numbers scores;
  mlir::Value takePart; ///< whether they do (i1); null: always
};

/// Hands out scratch, in whole cache lines.
class Areas {
public:
  /// Where the next `size` bytes begin.
  int64_t take(int64_t size) {
    const int64_t start = bytes;
    bytes += roundUp(size, 64);
    return start;
  }
  int64_t bytes = 0;
};

/// Emits a tile's work. Call beginTask, for each tile of it begin, attend, then forEachRow, and
/// endTask. How rows meet keys and values is a form's.
class Tile {
public:
  /// Positions [first, end) that a row sees; i64, relative to the sequence's first slot.
  using Range = std::pair<mlir::Value, mlir::Value>;

  static std::unique_ptr<Tile> create(KernelBuilder &k, const Shape &shape);
  virtual ~Tile() = default;

  /// Scratch that a tile needs.
  int64_t scratchBytes() const { return areas.bytes; }

  virtual void beginTask() {}
  virtual void endTask() {}

  /// Takes `rows` query rows; `query` points at the first row's first head of the group.
  void begin(mlir::Value query, mlir::Value rows,
             llvm::function_ref<Range(mlir::Value row)> visible, const std::optional<Sinks> &sinks);

  /// Goes through all keys that a row sees. `pages` points at the sequence's row of the block
  /// table; null where slots are contiguous. Keys that no row of a register tile sees take no part,
  /// so that nothing that lies there reaches a result.
  void attend(const HeadRows &keys, const HeadRows &values, mlir::Value pages);

  /// For each stacked row, its query row and its head within the group.
  void forEachRow(llvm::function_ref<void(mlir::Value stacked, mlir::Value row, mlir::Value head)>);

  // State of a stacked row after attend(): the highest score, the sum of exp(score - highest), and
  // of the values' sum with these weights the vector whose first number is `byteOffset` / 4.
  mlir::Value highest(mlir::Value stacked) { return k.at(base, offset(highestArea, stacked, 4)); }
  mlir::Value sum(mlir::Value stacked) { return k.at(base, offset(sumArea, stacked, 4)); }
  virtual mlir::Value outputAt(mlir::Value stacked, mlir::Value byteOffset) = 0;

protected:
  Tile(KernelBuilder &k, const Shape &shape);

  /// A block of keys as one register tile sees it: columns [from, to) of the block; `masked` where
  /// not every row sees all of the block.
  struct View {
    mlir::Value from, to, masked;
  };

  /// Stores vector `v` of a stacked row's query, scaled.
  virtual void storeQuery(mlir::Value stacked, int64_t v, mlir::Value x) = 0;
  virtual void clearOutput(mlir::Value stacked) = 0;
  virtual void attendBlock(mlir::Value block, const BlockRows &keys, const BlockRows &values) = 0;
  /// After all blocks.
  virtual void finish() {}

  mlir::Value offset(int64_t start, mlir::Value index, int64_t stride) {
    return k.add(k.mul(index, stride), start);
  }
  Range rowRange(mlir::Value stacked);
  void forEachTile(mlir::Value block,
                   llvm::function_ref<void(mlir::Value stacked, const View &view)> body);

  /// The columns [from, to) of a block that any row sees.
  Range seenOf(mlir::Value block) {
    return {k.sub(k.max(first, block), block), k.min(k.sub(end, block), k.c(shape.keyBlock))};
  }
  /// Of a block's rows that of column `column`, or its nearest neighbour that a row sees.
  mlir::Value seenRow(const BlockRows &rows, mlir::Value column, const Range &seen) {
    return rows.row(k.min(k.max(column, seen.first), k.sub(seen.second, k.c(1))));
  }

  KernelBuilder &k;
  const Shape shape;
  Areas areas;
  mlir::Value base;         ///< scratch
  mlir::Value count, tiles; ///< stacked rows; register tiles
  mlir::Value first, end;   ///< keys that any row sees
  int64_t rangesArea;       ///< [first, end) of each stacked row, i64

private:
  int64_t slotsArea, tileRangesArea, highestArea, sumArea;
};

/// The form of f32: packed keys and values, or where they lie.
std::unique_ptr<Tile> createVectorTile(KernelBuilder &k, const Shape &shape);
/// The form of packed keys and values of bf16.
std::unique_ptr<Tile> createMatrixTile(KernelBuilder &k, const Shape &shape);

} // namespace kernelforge::cpu::attention
