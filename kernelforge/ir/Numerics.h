// Numerics of operations: what an operation has, and how they come to a module's.
#pragma once

#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Error.h"
#include "kernelforge/support/Numerics.h"

#include "mlir/IR/BuiltinOps.h"

namespace kernelforge {

/// What an operation's operands are rounded to before they are multiplied; f32 where it does not
/// say.
Numerics numericsOf(mlir::Operation *op);

/// The attribute that says so; null for f32, which is what an operation without it has.
transformer::NumericsAttr numericsAttr(mlir::MLIRContext *context, Numerics numerics);

/// Whether an operation can have these numerics: matmuls and mlps whose weights are all quantized
/// those of whole numbers, matmuls, mlps and attentions all others.
bool takesNumerics(mlir::Operation *op, Numerics numerics);

/// Whether any operation of a module can.
bool canTake(mlir::ModuleOp module, Numerics numerics);

/// Gives them to each operation of a module that can have them and does not say what it has.
/// Unusable where none can: what is computed would not be what was asked for.
Status setNumerics(mlir::ModuleOp module, Numerics numerics);

} // namespace kernelforge
