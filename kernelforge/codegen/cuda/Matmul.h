// Ways to compute matmuls on a GPU of capability 9.0 besides the plain one, and their schedules.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/ScheduleSpace.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/codegen/cuda/Accumulators.h"

namespace kernelforge::cuda::matmul {

/// A checked schedule of the method `matrices`: each warpgroup of a block multiplies 64 rows.
struct MatrixKnobs {
  int64_t bm = 0, bn = 0; ///< rows and columns of a block's tile, of each segment
  int64_t stages = 0;     ///< of the ring
  int64_t group = 0;      ///< tiles that follow one another downwards
  int64_t resident = 0;   ///< blocks that share a multiprocessor
  int64_t blocks = 0;     ///< of the grid, at most

  int64_t consumers() const { return bm / MatrixShape::rows; }
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

/// The type that both operands of a matmul have that matrix units multiply as they lie in memory;
/// nothing where they do not.
std::optional<ElementType> matrixElement(transformer::MatmulOp matmul);

/// The schedules of the method `matrices`, and one of them.
ScheduleSpace matrixSpace(const KernelAnalysis &kernel, const Target &target);
Expected<MatrixKnobs> matrixKnobs(const KernelAnalysis &kernel, const Target &target,
                                  const KnobValues &values);

} // namespace kernelforge::cuda::matmul
