// Ways to compute matmuls on a GPU of capability 9.0 besides the plain one, and their schedules.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/ScheduleSpace.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/codegen/cuda/ClusterSums.h"
#include "kernelforge/codegen/simt/MatmulRows.h"

#include <optional>

namespace kernelforge::cuda::matmul {

/// A checked schedule of the method `matrices`: each warpgroup of a block multiplies 64 rows.
struct MatrixKnobs {
  int64_t bm = 0, bn = 0; ///< rows and columns of a block's tile, of each segment
  int64_t stages = 0;     ///< of the ring
  int64_t group = 0;      ///< tiles that follow one another downwards
  int64_t resident = 0;   ///< blocks that share a multiprocessor
  int64_t blocks = 0;     ///< of the grid, at most; each tile has its own where `split` is not 1
  int64_t split = 1;      ///< blocks that share the depth of a tile: a cluster
  bool early = false;     ///< weights are copied before what ran before is done

  int64_t consumers() const { return bm / MatrixShape::rows; }
  /// Columns of each segment that a block stores.
  int64_t columnsOfBlock() const { return bn / split; }
  OperandTile left() const { return {bm, true}; }
  OperandTile right(int64_t segments, bool transposed) const {
    return {segments * bn, !transposed};
  }
  int64_t stageBytes(int64_t segments) const {
    return (bm + segments * bn) * OperandTile::depth * OperandTile::elementBytes;
  }
  int64_t sharedBytes(int64_t segments) const {
    return consumers() * ResultPanels::bytesOfGroup + Ring::bytes(stages, stageBytes(segments));
  }
};

/// Bytes that rows of a bulk copy must be a multiple of.
constexpr int64_t copyUnit = 16;

/// Columns of a product of the matrix units at most.
constexpr int64_t mostColumns = 256;

/// The type that matrix units multiply a matmul's operands in: that of its weights, bf16 or f16,
/// where rows have it, too, or its numerics say that they are rounded to it; of quantized weights
/// in planes that of the numerics. Nothing where there is none.
std::optional<ElementType> matrixElement(transformer::MatmulOp matmul);

/// Whether the weights are quantized, and lie in planes: they are expanded on their way.
bool expandsWeights(transformer::MatmulOp matmul);

/// Stages of the depth that are filled together: one, or as many as pieces of the weights are of.
int64_t stagesOfUnit(transformer::MatmulOp matmul);

/// Registers in which a thread that expands weights has a unit on its way, and how many it has for
/// all that are.
int64_t registersOfUnit(const KernelAnalysis &kernel, int64_t columns);
constexpr int64_t registersOnTheirWay = 36;

/// Whether rows stand in memory as they are multiplied; else a phase before writes them so.
bool hasMatrixRows(transformer::MatmulOp matmul);

/// Columns of rows that such a phase writes: K and what makes whole bulk copies of it.
constexpr int64_t paddedDepth(int64_t depth) { return (depth + 7) / 8 * 8; }

/// Emits that phase: rows as they are multiplied, of `element`, into workspace 0.
Phase emitRows(mlir::ModuleOp module, const KernelAnalysis &kernel, llvm::StringRef entry,
               ElementType element);

/// Emits the phase that multiplies groups of as many segments, whose tiles are side by side.
Phase emitBlocks(mlir::ModuleOp module, const KernelAnalysis &kernel,
                 llvm::ArrayRef<const SegmentGroup *> groups, llvm::StringRef entry,
                 const MatrixKnobs &knobs);

/// A checked schedule of the method `narrow`: a warp multiplies 16 columns of each segment with up
/// to `rows` rows.
struct NarrowKnobs {
  int64_t warps = 0;  ///< of a block
  int64_t ks = 0;     ///< of them share out K
  int64_t u = 0;      ///< pieces of K that a warp asks for at once
  int64_t rows = 0;   ///< of a block: a multiple of 8
  bool early = false; ///< it asks for its first weights before what ran before it is done
  bool ahead = false; ///< the next pieces are asked for before these are multiplied

  static constexpr int64_t columnsOfWarp = 16; ///< of a segment
  int64_t columns() const { return warps / ks * columnsOfWarp; }
};

/// What bounds such schedules beside the kernel's shape.
struct NarrowNeeds {
  bool writesRows = false;     ///< a phase before does
  int64_t parts = 1;           ///< numbers that stand for one of a row
  int64_t rows = 8;            ///< that a block must have at least, but for whole products
  int64_t words = 0;           ///< that a thread has of a piece of K on its way
  int64_t elements = 1;        ///< of K, of a piece
  bool loopsOften = false;     ///< a loop of two turns, which is written out, spills registers
  int64_t registers = 128;     ///< of a thread
  int64_t mostAtOnce = 16;     ///< pieces of K that a warp asks for: with more, some are spilled
  int64_t besides = 0;         ///< registers besides these and sums
  double secondsPerWeight = 0; ///< that all multiprocessors together take beside reading it
};

/// The schedules of the method `narrow` and of what is like it, and one of them.
ScheduleSpace narrowSpace(const simt::rows::Shape &shape, const NarrowNeeds &needs);
Expected<NarrowKnobs> narrowKnobs(const simt::rows::Shape &shape, const NarrowNeeds &needs,
                                  const KnobValues &values);

/// The schedules of the method `matrices`, and one of them.
ScheduleSpace matrixSpace(const KernelAnalysis &kernel, const Target &target);
Expected<MatrixKnobs> matrixKnobs(const KernelAnalysis &kernel, const Target &target,
                                  const KnobValues &values);

} // namespace kernelforge::cuda::matmul
