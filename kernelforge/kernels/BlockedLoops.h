// The cache-blocked loops that the blocked and the parallel variant share: panels of the weight are
// expanded and packed as they are needed, never the whole weight.
#pragma once

#include "kernelforge/kernels/MatmulKernel.h"
#include "kernelforge/kernels/TileKernels.h"

namespace kernelforge {

/// How one thread walks over its part of a matmul.
struct Blocking {
  int64_t mc = 0;    ///< rows of the input that are packed at once
  int64_t nc = 0;    ///< columns of a panel of the weight
  int64_t kc = 0;    ///< depth of both
  bool pack = false; ///< false: dot products with rows of the weight as they lie, for few rows
};

/// What a schedule's depth and split of k are multiples of: a whole number of blocks of any type.
int64_t depthUnit(const MatmulProblem &problem);

class BlockedLoops {
public:
  BlockedLoops(const MatmulProblem &problem, const MatmulOperands &operands,
               const Blocking &blocking);

  /// Values of scratch that a thread needs in run().
  int64_t scratchValues() const;

  /// out[rows, columns] of `area` = input * weight^T over its part of k, without epilogue. `out`
  /// is a whole result [m, n]; kBegin is a multiple of depthUnit(). The order of each sum depends
  /// on the blocking and on the part of k alone.
  void run(const MatmulArea &area, const float *input, float *out, float *scratch) const;

private:
  void packWeight(const MatmulArea &block, float *panel, float *rows) const;
  void packInput(const MatmulArea &block, const float *input, float *packed) const;
  void multiply(const MatmulArea &block, const float *packed, const float *panel, float *out,
                bool add) const;
  void multiplyRows(const MatmulArea &block, const float *input, float *out, float *rows,
                    bool add) const;
  const float *expandRows(const MatmulArea &block, int64_t first, int64_t count, float *rows,
                          int64_t &stride) const;

  MatmulProblem problem;
  const std::byte *weight;
  Blocking blocking;
  const TileKernels &kernels;
};

} // namespace kernelforge
