// Elementary functions by what a GPU has of its own: 2^x and the reciprocal, a few instructions
// where the arithmetic that is right to an ulp or two takes dozens.
#pragma once

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace kernelforge::cuda {

/// On a function: what it computes follows products of rounded operands, or is rounded to 16 bits
/// when it is stored, and may be computed so.
constexpr llvm::StringLiteral ownFunctionsName = "own_functions";

/// Where a function says so, replaces exponentials (right to 2^-20 of arguments from -16 on,
/// and to 2^-17 of all), erf (within 2^-20) and quotients (right to 2^-22; numbers below the
/// normal ones are 0).
void expandByOwnFunctions(mlir::func::FuncOp function);

} // namespace kernelforge::cuda
