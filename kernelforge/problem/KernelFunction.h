// Functions that launch one kernel on their arguments: how a kernel is run by itself.
#pragma once

#include "kernelforge/ir/Transformer.h"

namespace kernelforge {

/// Adds a function `name` to `module`, after all else, that takes what `kernel` takes, launches it
/// and gives what it gives.
mlir::func::FuncOp addKernelFunction(mlir::ModuleOp module, transformer::KernelOp kernel,
                                     llvm::StringRef name);

/// Where a module holds kernels and no function but their code, as one printed by itself: adds a
/// function for each kernel, `run_` and its name.
void addMissingKernelFunctions(mlir::ModuleOp module);

} // namespace kernelforge
