// The way from a kernel in structured form (func, scf, arith, vector, llvm) to the LLVM dialect,
// in process and as one short list.
#pragma once

#include "kernelforge/support/Error.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"

namespace kernelforge {

/// The passes. They expect no memrefs, tensors or math operations.
void buildLowerToLLVM(mlir::OpPassManager &passes);

/// Runs them on `module` in place. Failed with MLIR's diagnostics where something is left that is
/// not of the LLVM dialect or of the dialect `besides`, a target's own; the module is then in no
/// defined state.
Status lowerToLLVM(mlir::ModuleOp module, llvm::StringRef besides = "llvm");

} // namespace kernelforge
