// What the ways to compute matmuls of many rows share. A workgroup computes a tile of the results,
// stage after stage of K; a kernel becomes these phases:
//
//     rows into a workspace as they are multiplied, where they are more than an argument or are
//     worth it; then for each group of segments, or for several of one segment
//       the tiles, each of a slice of K where several workgroups share it out, and
//       what follows the matmul: at once, or where K is shared out in a phase that adds the slices
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/Launching.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/Strip.h"

namespace kernelforge::simt::tiles {

/// How the work is cut.
struct Cut {
  int64_t bm = 0, bn = 0; ///< rows and columns of a workgroup's tile, of each segment
  int64_t bk = 0;         ///< depth of a stage
  int64_t ksplit = 1;     ///< workgroups that share out K
  bool strict = false;    ///< memory that is not an operand's must not be read
  bool pack = false;      ///< rows are written into a workspace first, as they are multiplied
};

/// K in stages, and how slices of it share them.
struct Stages {
  int64_t all, whole; ///< the last one may be less than a stage
  int64_t perSlice;
  int64_t slices; ///< `ksplit` or less: none is empty

  Stages(int64_t depth, const Cut &cut);
};

/// Columns of a tile that are stored: as many whole heads as it has.
int64_t storedColumns(const SegmentGroup &group, const Cut &cut);

/// Where the tiles of a group begin, side by side with those of the groups before it.
int64_t firstColumnTile(llvm::ArrayRef<SegmentGroup> groups, size_t number, const Cut &cut);

/// One phase's view of a cut kernel, of which it computes some groups.
class TileGrid {
public:
  TileGrid(PhaseBuilder &p, const KernelAnalysis &kernel, llvm::ArrayRef<SegmentGroup> groups,
           const Cut &cut);

  Stages stages;
  int64_t columnTiles;

  /// Values that `each` gives for the group of this workgroup's tile, by its number.
  llvm::SmallVector<mlir::Value>
  choose(mlir::TypeRange types,
         llvm::function_ref<llvm::SmallVector<mlir::Value>(size_t group)> each) const {
    return choose(0, types, each);
  }

  /// Workgroups.
  Extent grid() const;
  mlir::Value totalRows; ///< of the results
  // This workgroup's, i32.
  mlir::Value tile, slice;
  mlir::Value firstRow, firstCol; ///< of the tile in its group's results
  mlir::Value firstStage, stageCount;

private:
  llvm::SmallVector<mlir::Value>
  choose(size_t group, mlir::TypeRange types,
         llvm::function_ref<llvm::SmallVector<mlir::Value>(size_t group)> each) const;

  PhaseBuilder &p;
  llvm::SmallVector<int64_t> ends; ///< of each group's column tiles
  mlir::Value across;              ///< number of the column of tiles
  Extent rowTiles;
};

/// Unusable, naming the kernel, where no method of many rows can compute it, or none that there is
/// for its numerics: `multipliesIn` says for which there is.
Status supports(const KernelAnalysis &kernel, bool (*multipliesIn)(mlir::Operation *, Numerics));

/// Buffers that the phases of groups need at most at once, where a phase computes all of them.
int64_t buffersOf(const KernelAnalysis &kernel, llvm::ArrayRef<SegmentGroup> groups);

/// Whether one phase computes all groups: there are several, each of one segment of the same type,
/// and the device has buffers for that.
bool isOnePhase(const KernelAnalysis &kernel, const Target &target);

/// Whether the rows that are multiplied stand in an argument.
bool hasPlainInput(const KernelAnalysis &kernel);

/// Segments that the kernel's groups compute at once, at most.
int64_t segmentsAtOnce(const KernelAnalysis &kernel);

/// Puts the phases of a kernel together.
class Phases {
public:
  /// `inputType`: what rows are written as where they are: f32 or f16.
  Phases(mlir::ModuleOp module, const KernelAnalysis &kernel, const Target &target,
         llvm::StringRef entry, const Cut &cut, ElementType inputType);

  /// Emits the tiles of groups: into `partialSums`, a workspace by its number, or where that is
  /// negative with what follows the matmul.
  using EmitTiles = llvm::function_ref<Phase(llvm::ArrayRef<SegmentGroup> groups,
                                             llvm::StringRef entry, int partialSums)>;
  Launching emit(EmitTiles tiles);

  /// Number of the workspace of the input's rows, where they are packed.
  static constexpr int inputWorkspace = 0;
  /// Columns of these rows: K and zeros behind it.
  static int64_t inputColumns(int64_t depth) { return (depth + 7) / 8 * 8; }

private:
  Phase emitInput(llvm::StringRef entry);
  Phase emitSums(llvm::ArrayRef<SegmentGroup> groups, size_t number, llvm::StringRef entry,
                 int partialSums);

  mlir::ModuleOp module;
  const KernelAnalysis &kernel;
  bool together; ///< all groups in one phase
  llvm::StringRef entry;
  const Cut &cut;
  ElementType inputType;
};

/// Number of a quad of partial sums, by the tile's number and the place in it. Slices and segments
/// of a tile lie one behind the other.
mlir::Value partialQuad(PhaseBuilder &p, const Cut &cut, int64_t slices, int64_t segments,
                        mlir::Value tile, mlir::Value slice, int64_t segment, mlir::Value row,
                        mlir::Value quad);

/// Whether a group stores nothing but the sums of one segment, quad by quad.
bool storesSums(const KernelAnalysis &kernel, const SegmentGroup &group);

/// Rows of a tile that lie in workgroup memory at once, while what follows the matmul is computed.
struct StripShape {
  int64_t rows;   ///< of a strip
  int64_t count;  ///< of strips
  int64_t stride; ///< f32 from a row to the next
  int64_t segmentStride;
};

/// Computes and stores what follows the matmul, strip by strip: `put(strip)` writes the sums of the
/// strip with that number into `memory`, from its first element on.
void storeStrips(PhaseBuilder &p, const KernelAnalysis &kernel, const SegmentGroup &group,
                 const TileGrid &grid, const Cut &cut, const StripShape &shape, mlir::Value memory,
                 llvm::function_ref<void(mlir::Value strip)> put);

} // namespace kernelforge::simt::tiles
