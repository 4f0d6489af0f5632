// The rows of a tile of an attention's query, and the keys that they see: of one sequence after the
// other, as a tile may have rows of several.
#pragma once

#include "kernelforge/codegen/simt/AttentionFacts.h"
#include "kernelforge/codegen/simt/AttentionKeys.h"
#include "kernelforge/codegen/simt/Builder.h"

namespace kernelforge::simt {

/// Which query head a workgroup computes, and of which rows.
struct TileStart {
  mlir::Value head, cacheHead, firstRow;
};

/// Workgroups take a query head of `tileRows` rows each, heads first. Where attention is causal the
/// last rows see most, and begin first.
TileStart startOfTile(PhaseBuilder &p, transformer::AttentionOp op, const AttentionFacts &facts,
                      int64_t tileRows);

/// A row of a tile, as the threads have it that compute it. A row past the last one is that again.
struct TileRow {
  mlir::Value index; ///< in the tile
  mlir::Value row, isThere, sequence;
  mlir::Value first, length; ///< of the positions that it sees
};

/// The keys of one sequence that rows of a tile see.
struct TileKeys {
  mlir::Value sequence, firstSlot;
  mlir::Value from, to;             ///< all that any row sees lies between; the same in all threads
  mlir::Value commonFrom, commonTo; ///< what all rows of the sequence see
  mlir::Value isMixed;              ///< whether there are rows of other sequences, too
  llvm::SmallVector<mlir::Value>
      lengths; ///< of a thread's rows, 0 where they are of another sequence
};

/// Goes through the keys of a tile.
class AttentionTile {
public:
  /// Workgroup memory (bytes) for a tile of so many rows of up to so many sequences.
  static int64_t sharedBytes(int64_t sequences, int64_t rows, int64_t blockThreads,
                             int64_t subgroup);

  /// `subgroup`: as of reduceBlock(). `tileRows` rows from `firstRow` on.
  AttentionTile(PhaseBuilder &p, transformer::AttentionOp op, int64_t sequences, int64_t subgroup,
                mlir::Value firstRow, int64_t tileRows);

  /// Row `index` of the tile.
  TileRow row(mlir::Value index);

  using Body = llvm::function_ref<llvm::SmallVector<mlir::Value>(const TileKeys &keys,
                                                                 mlir::ValueRange carried)>;
  /// Lets `body` go through the keys of each sequence that rows of the tile are of. `own`: the rows
  /// of each thread, among them all rows of the tile. All threads of the block come here.
  llvm::SmallVector<mlir::Value> overSequences(llvm::ArrayRef<TileRow> own,
                                               llvm::StringRef carriedNames, mlir::ValueRange init,
                                               Body body);

  /// The slot of position `key`, or past the end that of the last one.
  mlir::Value slot(const TileKeys &keys, mlir::Value key);

  /// Whether some keys, `count` from `base` on, are not seen by all rows.
  mlir::Value isPartial(const TileKeys &keys, mlir::Value base, int64_t count);

  /// Whether any row sees a key. A slot that none sees may hold anything, which times a weight of 0
  /// may be no number. Null where all keys between the first and the last one are seen.
  mlir::Value isSeen(const TileKeys &keys, mlir::Value key);

  AttentionKeys &keys() { return seen; }

private:
  TileKeys keysOf(llvm::ArrayRef<TileRow> own, mlir::Value sequence, mlir::Value isMixed);

  PhaseBuilder &p;
  transformer::AttentionOp op;
  AttentionKeys seen;
  int64_t sequences, subgroup;
  mlir::Value firstRow;
  int64_t tileRows;
};

} // namespace kernelforge::simt
