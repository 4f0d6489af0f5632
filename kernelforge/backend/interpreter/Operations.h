// Executes single operations of the dialect by their reference semantics.
#pragma once

#include "kernelforge/backend/interpreter/Frame.h"

namespace kernelforge {

/// True for the operations that `executeOp` knows.
bool canExecute(mlir::Operation *op);

/// Computes the results of `op` from its operands in `frame`. Unusable where an index that it reads
/// points outside what it indexes, Failed where memory cannot be had.
Status executeOp(mlir::Operation *op, Frame &frame);

} // namespace kernelforge
