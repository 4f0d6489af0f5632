// What a function must give: its operations' reference semantics on the same data.
#pragma once

#include "kernelforge/kernels/Reference.h"
#include "kernelforge/problem/FunctionData.h"

#include "mlir/IR/BuiltinOps.h"

namespace kernelforge {

/// Runs the function of `module` by the operations' reference semantics on a copy of `data` as it
/// is before a run; gives the results and written caches, in that order. Weights are given
/// row-major, whatever layout the module declares. In plain precision: what an honest simple f32
/// implementation gives, by whose distance from the wide result any other is judged.
Expected<std::vector<TensorData>>
runReference(mlir::ModuleOp module, const FunctionSignature &signature, const FunctionData &data,
             reference::Precision precision = reference::Precision::Wide);

/// The results and the caches that the function writes, in that order.
std::vector<const TensorData *> outputsOf(const FunctionSignature &signature,
                                          const FunctionData &data);

/// What a result of that type may differ from its reference, as a multiple of the largest value.
double toleranceOf(ElementType type);

/// Types of a function's tensor and cache arguments as `module` declares them, layouts included.
std::vector<mlir::Type> declaredTypes(mlir::ModuleOp module, llvm::StringRef function);

/// A weight's rows in the interleaved layout.
Expected<PageMemory> packWeight(const TensorData &weight);

} // namespace kernelforge
