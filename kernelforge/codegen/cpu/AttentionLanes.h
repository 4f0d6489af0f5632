// What attention does across the lanes of vectors: reductions of several at once, and
// transposition.
#pragma once

#include "kernelforge/codegen/cpu/KernelBuilder.h"

namespace kernelforge::cpu::attention {

/// Larger of two, lane by lane; `y` where one is NaN. One instruction, unlike KernelBuilder::maxf:
/// a NaN among scores reaches the sum of their exponentials anyhow.
mlir::Value larger(KernelBuilder &k, mlir::Value x, mlir::Value y);

/// Lane i is the reduction by `combine` of all lanes of vectors[i]; up to 16 vectors, in a fixed
/// order. Lanes beyond them hold nothing of use.
mlir::Value reduceEach(KernelBuilder &k, llvm::ArrayRef<mlir::Value> vectors,
                       llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)> combine);

/// Vector i of the result holds lane i of each of the sixteen.
llvm::SmallVector<mlir::Value> transpose(KernelBuilder &k, llvm::ArrayRef<mlir::Value> vectors);

/// One of two steps that add four vectors of 8 lanes up to one: of the first two and the last two,
/// then of what came of them, whose lanes i and i + 4 together are the sum of vector i.
mlir::Value addPairs(KernelBuilder &k, mlir::Value x, mlir::Value y, bool isFirst);

} // namespace kernelforge::cpu::attention
