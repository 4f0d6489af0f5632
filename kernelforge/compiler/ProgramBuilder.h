// From a function of launches and its artifacts to a program: buffers, launches, memory plan.
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/support/Error.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace kernelforge {

/// `artifacts` are those of the function's module. Unusable, naming the operation, where the
/// function holds anything but launches, or returns what no launch of it computed.
Expected<Program> buildProgram(mlir::func::FuncOp function, const std::vector<Artifact> &artifacts);

/// Name of tensor or cache argument `index` of a function: its weight or input name, else "argN".
std::string argumentName(mlir::func::FuncOp function, unsigned index);

} // namespace kernelforge
