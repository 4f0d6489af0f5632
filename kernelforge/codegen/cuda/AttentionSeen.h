// Which keys the rows of a tile see. The producer finds out, sequence by sequence, and leaves it in
// shared memory, where the warpgroups that multiply read it.
#pragma once

#include "kernelforge/codegen/cuda/Attention.h"
#include "kernelforge/codegen/simt/AttentionKeys.h"

namespace kernelforge::cuda::attention {

/// What a record in shared memory begins with, a word each; then come first positions and numbers
/// of positions that rows see.
enum class Word : int64_t {
  Head,      ///< the query head of the tile, or `noTile` where there are no more
  FirstRow,  ///< of the tile
  Sequences, ///< records of the tile
  Sequence,  ///< whose keys they are
  IsFirst,   ///< whether it is the tile's first record
  IsLast,
  Blocks,      ///< of keys; the last ones come first
  Start,       ///< first position of the last block
  MaskedFirst, ///< so many blocks are seen by some rows in part, from the first one on
  ClearEnd,    ///< so are all from this one on
  From,        ///< what some row sees lies from here
  To,          ///< to here
  IsApart,     ///< some rows see nothing that others see, so that there may be gaps
  Count,
};
constexpr int64_t noTile = -1;

/// Records go round between the producer's warp and the consumers.
class SeenKeys {
public:
  /// `records` and `barriers`: of its ring.
  SeenKeys(simt::PhaseBuilder &p, transformer::AttentionOp op, const Shape &shape,
           mlir::Value records, mlir::Value barriers);

  Ring ring;

  /// Waits for the record at the place that is carried first: whether there is one, and what is
  /// carried with its query head as the last.
  llvm::SmallVector<mlir::Value> nextTile(mlir::ValueRange carried);
  /// A word (i32) of the record at an address.
  mlir::Value word(mlir::Value record, Word which);
  /// First position of a block, which come last first.
  mlir::Value baseOf(mlir::Value record, mlir::Value block);
  /// What row `row` (i32) of the tile sees: the first position and how many.
  std::pair<mlir::Value, mlir::Value> ofRow(mlir::Value record, mlir::Value row);

  // By the warp that produces.
  /// The least and the greatest sequence of the tile whose rows begin at `firstRow`.
  std::pair<mlir::Value, mlir::Value> sequencesOf(mlir::Value lane, mlir::Value firstRow);
  /// What a record is of. The first one of a tile has a block in any case.
  struct Of {
    mlir::Value head, firstRow, sequence, sequences, isFirst, isLast;
  };
  /// Leaves a record at a place of the ring.
  void publish(const RingPlace &place, mlir::Value lane, const Of &of);
  /// Leaves word that there are no more tiles.
  void publishEnd(const RingPlace &place, mlir::Value lane);

private:
  /// The tile's rows of a lane, one of each 32. A row past the last one is that again.
  llvm::SmallVector<mlir::Value> lanesRows(mlir::Value lane, mlir::Value firstRow);
  mlir::Value sequenceOf(mlir::Value row);
  mlir::Value wordAddress(mlir::Value record, Word which) {
    return p.add(record, static_cast<int64_t>(which) * 4);
  }
  /// Where the first rows' positions stand, and their numbers.
  int64_t firstsAt() const;
  int64_t lengthsAt() const;
  void hand(const RingPlace &place, mlir::Value lane);

  simt::PhaseBuilder &p;
  Assembly assembly;
  transformer::AttentionOp op;
  const Shape &shape;
  simt::AttentionKeys keys;
  bool hasFirsts; ///< where there is no window rows see all from position 0 on
};

} // namespace kernelforge::cuda::attention
