// Which keys the rows of a tile see. The producer finds out, sequence by sequence, and leaves it in
// shared memory, where the warpgroups that multiply read it.
#pragma once

#include "kernelforge/codegen/cuda/Attention.h"
#include "kernelforge/codegen/simt/AttentionKeys.h"

namespace kernelforge::cuda::attention {

/// What a record in shared memory begins with, a word each; then come first positions and numbers
/// of positions that rows see.
enum class Word : int64_t {
  Tile,        ///< its number, or `noTile` where there are no more
  Sequences,   ///< records of the tile
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
  SeenKeys(simt::PhaseBuilder &p, transformer::AttentionOp op, const Shape &shape,
           PhaseMemory &memory);

  static constexpr int64_t stages = 2;
  static int64_t recordBytes(const Shape &shape);

  Ring ring;

  /// A word (i32) of the record at an address.
  mlir::Value word(mlir::Value record, Word which);
  /// First position of a block, which come last first.
  mlir::Value baseOf(mlir::Value record, mlir::Value block);
  /// What row `row` (i32) of the tile sees: the first position and how many.
  std::pair<mlir::Value, mlir::Value> ofRow(mlir::Value record, mlir::Value row);

  /// By the warp that produces: the rows of a lane, of a tile from `firstRow` on.
  struct LaneRows {
    llvm::SmallVector<mlir::Value> sequences, firsts, lengths;
  };
  LaneRows lanesRows(mlir::Value lane, mlir::Value firstRow);
  /// The least and the greatest sequence of a tile.
  std::pair<mlir::Value, mlir::Value> sequencesOf(const LaneRows &rows);
  /// Leaves a record at a place of the ring. `isFirst`: of its tile; it has a block in any case.
  struct Range {
    mlir::Value start, to, blocks;
  };
  Range publish(const RingPlace &place, const LaneRows &rows, mlir::Value lane, mlir::Value tile,
                mlir::Value sequence, mlir::Value sequences, mlir::Value isFirst);
  /// Leaves word that there are no more tiles.
  void publishEnd(const RingPlace &place, mlir::Value lane);

private:
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
