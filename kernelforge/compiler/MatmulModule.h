// A matmul problem as IR: a module to compile, or the kernel that it becomes.
#pragma once

#include "kernelforge/ir/Transformer.h"
#include "kernelforge/kernels/MatmulProblem.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace kernelforge {

/// Whether the dialect can say a problem: a bias is added to the product itself, so it must be the
/// epilogue's first step.
bool isKernel(const MatmulProblem &problem);

/// A problem as a module with the function @matmul of size "rows": compiled for exactly one row, or
/// for 2 to m. Unusable where it is none (checkProblem) or isKernel() says no.
Expected<mlir::OwningOpRef<mlir::ModuleOp>> buildMatmulModule(mlir::MLIRContext *context,
                                                              const MatmulProblem &problem);

/// The kernel that this module fuses into where its weight is of type `weight`, with its layout: by
/// its hash, a problem's records are found whatever names, sizes and order of arguments a kernel of
/// a model has. The problem must be one that isKernel() takes.
mlir::OwningOpRef<transformer::KernelOp> buildMatmulKernel(const MatmulProblem &problem,
                                                           mlir::RankedTensorType weight);

} // namespace kernelforge
