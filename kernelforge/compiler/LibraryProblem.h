// Kernels that are one library call: which of them are exactly one matmul problem, so that any of
// its variants may run them.
#pragma once

#include "kernelforge/ir/Transformer.h"
#include "kernelforge/kernels/MatmulKernel.h"

namespace kernelforge {

/// A kernel as a matmul problem, with the arguments (of the kernel) that its operands are.
struct LibraryProblem {
  MatmulProblem problem; ///< with the most rows of the kernel's range
  int rowsSize = -1;     ///< the size that the rows follow; -1: there are always problem.m
  unsigned input = 0, weight = 0;
  std::optional<unsigned> bias, residual;
  unsigned sizes = 0, arguments = 0; ///< how many the kernel takes, sizes among the arguments
};

/// The inverse of buildMatmulModule: the problem that a kernel is, no more and no less. Nothing
/// where it has a prologue, several weights, steps after the product that no Epilogue has, rows
/// that are not f32, an accumulator that is not f32, or another result.
///
/// The layout of the weight does not count: a variant reads the weight as it lies in a file, and
/// who chooses one makes the weight row-major (see scheduleKernels).
std::optional<LibraryProblem> libraryProblem(transformer::KernelOp kernel);

} // namespace kernelforge
