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

/// Gives each operation of a module that does not say what it has those chosen for it, where it can
/// have them. Unusable where the same are for all and none can: what is computed would not be what
/// was asked for.
Status setNumerics(mlir::ModuleOp module, const ChosenNumerics &chosen);

/// The numerics that a module's operations have, as parseNumerics() takes them, with a + between
/// several; "exact" where none has any.
std::string numericsOf(mlir::ModuleOp module);

} // namespace kernelforge
