// What a function must give: its operations' reference semantics on the same data.
#pragma once

#include "kernelforge/kernels/Reference.h"
#include "kernelforge/problem/FunctionData.h"
#include "kernelforge/support/WeightLayout.h"

#include "mlir/IR/BuiltinOps.h"

namespace kernelforge {

/// Runs the function of `module` by the operations' reference semantics on a copy of `data` as it
/// is before a run; gives the results and written caches, in that order. Weights are given
/// row-major, whatever layout the module declares. In exact precision nothing is rounded but
/// results, caches and by casts. In plain precision, what an honest simple implementation gives, by
/// whose distance from the exact result any other is judged: it computes in f32, what operations
/// hand on to each other is rounded to its type, and what they multiply as their numerics say.
Expected<std::vector<TensorData>>
runReference(mlir::ModuleOp module, const FunctionSignature &signature, const FunctionData &data,
             reference::Precision precision = reference::Precision::Exact);

/// The results and the caches that the function writes, in that order.
std::vector<const TensorData *> outputsOf(const FunctionSignature &signature,
                                          const FunctionData &data);

/// What a result of that type may differ from its reference, as a multiple of the largest value.
double toleranceOf(ElementType type);
/// The coarsest type that numbers of a result or written cache were rounded to: its own, or one of
/// those that the function's operations give.
ElementType coarsestOf(const FunctionSignature &signature, const TensorData &output);

/// The tolerance of that.
double toleranceOf(const FunctionSignature &signature, const TensorData &output);

/// Tolerances of a function's outputs, in the order of `wide`, what runReference() gave of `data`
/// as it is before a run. Where its operations hand on what is narrower than f32, or round what
/// they multiply, at least four times what is off where each of them rounds: how much a rounding
/// counts depends on what follows it.
Expected<std::vector<double>> tolerancesOf(mlir::ModuleOp module,
                                           const FunctionSignature &signature,
                                           const FunctionData &data,
                                           const std::vector<TensorData> &wide);

/// Types of a function's tensor and cache arguments as `module` declares them, layouts included.
std::vector<mlir::Type> declaredTypes(mlir::ModuleOp module, llvm::StringRef function);

/// A weight's rows in a layout.
Expected<PageMemory> packWeight(const TensorData &weight, WeightLayout layout);

} // namespace kernelforge
