// A phase of a matmul of many rows, as any method that computes tiles of results emits it: sums of
// products, stage by stage, and where they go.
#pragma once

#include "kernelforge/codegen/simt/MatmulStages.h"

namespace kernelforge::simt::tiles {

/// Emits the tiles of one group of segments, or of several groups of one segment.
class TileEmitter {
public:
  virtual ~TileEmitter() = default;
  TileEmitter(const TileEmitter &) = delete;
  TileEmitter &operator=(const TileEmitter &) = delete;

  /// The phase: sums go into the workspace of partial sums where there is one, else with what
  /// follows the matmul into the results.
  Phase emit();

protected:
  /// `partialSums` is the number of a workspace, negative where there is none.
  TileEmitter(mlir::ModuleOp module, const KernelAnalysis &kernel,
              llvm::ArrayRef<SegmentGroup> groups, llvm::StringRef entry, const Cut &cut,
              int64_t threads, int partialSums);

  /// Makes the tiles: of the rows, then `ofWeight(weight, segment)` of what is multiplied with.
  void makeTiles(
      std::unique_ptr<Tile> ofRows,
      llvm::function_ref<std::unique_ptr<Tile>(mlir::Value weight, int64_t segment)> ofWeight);

  /// What a thread, or a subgroup with matrices, sums up: some rows of sums, each with as many
  /// side by side for every segment. A sum is a quad of numbers, or a matrix.
  struct Held {
    int64_t down = 1, across = 1;
    int64_t together = 1; ///< rows of sums that are in one strip
    mlir::Value part;     ///< which of the tile's parts its rows are, from above
    mlir::Value quad;     ///< its first column in the tile, in quads
    mlir::Value zero;     ///< a sum of nothing
  };

  /// Adds the products of the stage that lies in memory from vector `at` (null: 0) on.
  virtual void multiplyStage(llvm::MutableArrayRef<mlir::Value> sums, mlir::Value at) = 0;
  /// Row of the tile where row `i` of sums begins.
  virtual mlir::Value rowOfTile(int64_t i) = 0;
  /// The same in a strip, of which it is row `i` of sums.
  virtual mlir::Value rowOfStrip(int64_t i) = 0;
  /// Writes row `i` of a segment's sums to `memory`, from quad `at` on, where rows of numbers are
  /// `stride` quads apart.
  virtual void put(llvm::ArrayRef<mlir::Value> sums, int64_t i, int64_t segment, mlir::Value memory,
                   mlir::Value at, int64_t stride) = 0;
  /// Writes the sums to the result of a group, of which they are all that is stored (storesSums()).
  virtual void storeDirectly(llvm::ArrayRef<mlir::Value> sums, const SegmentGroup &group) = 0;

  void storeInStrips(llvm::ArrayRef<mlir::Value> sums, const SegmentGroup &group);
  /// A sum by its row, segment and place in the row.
  mlir::Value sumOf(llvm::ArrayRef<mlir::Value> sums, int64_t i, int64_t segment, int64_t j) const {
    return sums[static_cast<size_t>((i * segments + segment) * held.across + j)];
  }

  PhaseBuilder p;
  const KernelAnalysis &kernel;
  llvm::ArrayRef<SegmentGroup> groups;
  const Cut &cut;
  int partialSums;
  TileGrid grid;
  int64_t segments;
  // What a method sets before emit().
  mlir::Value memory;      ///< of the stages, then of the strips
  int64_t turnVectors = 0; ///< StageLoop::turnVectors
  Held held;
  StripShape strips;

private:
  llvm::SmallVector<mlir::Value> multiply();
  void storePartial(llvm::ArrayRef<mlir::Value> sums);

  llvm::SmallVector<std::unique_ptr<Tile>> tiles, others; ///< those of StageLoop
};

} // namespace kernelforge::simt::tiles
