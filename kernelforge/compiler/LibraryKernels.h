// Which kernels are exactly one matmul problem, so that any of its variants may run them.
#pragma once

#include "kernelforge/ir/Transformer.h"
#include "kernelforge/kernels/LibraryCall.h"

namespace kernelforge {

/// The inverse of buildMatmulModule: the call that a kernel is, no more and no less. Nothing where
/// it has a prologue, several weights, steps after the product that no Epilogue has, rows
/// that are not f32, an accumulator that is not f32, or another result.
///
/// The layout of the weight does not count: a variant reads the weight as it lies in a file, and
/// who chooses one makes the weight row-major (see scheduleKernels).
std::optional<LibraryCall> libraryCall(transformer::KernelOp kernel);

} // namespace kernelforge
