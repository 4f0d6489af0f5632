// Attention of some query rows of one sequence to one key/value head, key block by key block, with
// an online softmax. The query heads that share the key/value head are stacked as rows of one tile,
// so that keys and values are read once for all of them.
#pragma once

#include "kernelforge/codegen/cpu/AttentionRows.h"

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
  bool rounds;      ///< what is multiplied is rounded to bf16
  int64_t keyBlock; ///< keys of one step of the online softmax; a multiple of 16
  int64_t mr, nr;   ///< register tile: rows, vectors
  int64_t prefetch; ///< rows of keys and values fetched ahead; 0: none; 0 where keys are packed
  bool packed;      ///< keys are transposed into scratch, or (few rows) read where they lie
  int64_t maxRows;  ///< query rows of a tile; 1 where keys are not packed

  /// Stacked rows of a full tile, with the filling of its last register tile.
  int64_t stackedRows() const { return (maxRows * group + mr - 1) / mr * mr; }
  int64_t keyVectors() const { return (keyDim + lanes - 1) / lanes; }
  int64_t valueVectors() const { return (valueDim + lanes - 1) / lanes; }
  /// Bytes of a number of the query, and of the result.
  int64_t queryBytes() const { return info(query).blockBytes; }
  int64_t resultBytes() const { return info(result).blockBytes; }
};

/// Scores of keys without values, one for each query head of a group.
struct Sinks {
  Numbers scores;
  mlir::Value takePart; ///< whether they do (i1); null: always
};

/// Emits a tile's work. Call begin, attend, then forEachRow.
class Tile {
public:
  /// Positions [first, end) that a row sees; i64, relative to the sequence's first slot.
  using Range = std::pair<mlir::Value, mlir::Value>;

  Tile(KernelBuilder &k, const Shape &shape);

  /// Scratch that a tile needs.
  static int64_t scratchBytes(const Shape &shape) { return Layout(shape).bytes; }

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
  // the values' sum with these weights, in whole vectors.
  mlir::Value highest(mlir::Value stacked) {
    return k.at(base, offset(layout.highest, stacked, 4));
  }
  mlir::Value sum(mlir::Value stacked) { return k.at(base, offset(layout.sum, stacked, 4)); }
  mlir::Value output(mlir::Value stacked) {
    return k.at(base, offset(layout.output, stacked, outputStride));
  }

private:
  /// Byte offsets in scratch.
  struct Layout {
    explicit Layout(const Shape &shape);
    int64_t query, output, scores, keys, slots, ranges, tileRanges, highest, sum, alpha, bytes;
  };

  /// A block of keys as one register tile sees it: columns [from, to) of the block; `masked` where
  /// not every row sees all of the block.
  struct View {
    mlir::Value from, to, masked;
  };

  mlir::Value rounded(mlir::Value x) { return shape.rounds ? roundTo(k, ElementType::BF16, x) : x; }
  mlir::Value offset(int64_t start, mlir::Value index, int64_t stride) {
    return k.add(k.mul(index, stride), start);
  }
  mlir::Value scoreRow(mlir::Value stacked) {
    return k.at(base, offset(layout.scores, stacked, scoreStride));
  }
  Range rowRange(mlir::Value stacked);

  void forEachTile(mlir::Value block,
                   llvm::function_ref<void(mlir::Value stacked, const View &view)> body);
  void packKeys(const BlockRows &keys, mlir::Value block);
  void packSquare(const BlockRows &keys, llvm::ArrayRef<mlir::Value> rows, mlir::Value dim,
                  mlir::Value key, int64_t width);
  void scorePacked(mlir::Value stacked, const View &view);
  void scoreInPlace(mlir::Value stacked, const View &view, const BlockRows &keys);
  void scoreFour(mlir::Value query, int64_t rows, const BlockRows &keys, mlir::Value run,
                 mlir::Value out);
  llvm::SmallVector<mlir::Value> dots(llvm::ArrayRef<mlir::Value> queries, const BlockRows &keys,
                                      mlir::Value row);
  void maskScores(mlir::Value stacked, mlir::Value block, mlir::Value from, mlir::Value to);
  void softmax(mlir::Value stacked, mlir::Value block, const View &view);
  void addValues(mlir::Value stacked, mlir::Value block, const View &view, const BlockRows &values);
  void addValues(mlir::Value stacked, int64_t rows, int64_t vectors, const BlockRows &values,
                 mlir::Value from, mlir::Value to);
  /// The vectors of row `i` of a product's right side.
  using RowLoader = llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value i)>;
  llvm::SmallVector<mlir::Value> multiply(mlir::Value a, int64_t strideA, mlir::Value from,
                                          mlir::Value to, int64_t rows, int64_t vectors,
                                          mlir::ValueRange init, RowLoader load);

  KernelBuilder &k;
  const Shape shape;
  const Layout layout;
  const int64_t queryStride, outputStride, scoreStride;
  mlir::Value base;         ///< scratch
  mlir::Value count, tiles; ///< stacked rows; register tiles
  mlir::Value first, end;   ///< keys that any row sees
};

} // namespace kernelforge::cpu::attention
