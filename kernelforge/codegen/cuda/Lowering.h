// From plain SIMT code (codegen/simt) to the LLVM and NVVM dialects: what LLVM makes PTX of, or IR
// for any other consumer of the calling convention (Convention.h).
#pragma once

#include "kernelforge/codegen/Launching.h"
#include "kernelforge/support/Error.h"

#include "mlir/IR/BuiltinOps.h"

namespace kernelforge::cuda {

/// Registers of a thread where a function says nothing else: some are spilled else so that more
/// blocks fit.
constexpr int64_t usualRegisters = 128;

/// Says in the emitted functions of `launching` how many threads a block has, so that lower() need
/// not be told.
void markBlocks(mlir::ModuleOp module, const Launching &launching);

/// Lets the launch after a phase start as soon as all blocks of the phase run, if it starts early.
/// Phases that do so themselves say it when they have asked for their weights.
void letNextStart(mlir::ModuleOp module, const Launching &launching);

/// Lowers emitted functions in place: buffers become addresses of global memory, workgroup memory
/// globals of shared memory, elementary functions arithmetic. Sums of products may be fused
/// multiply-adds; no other liberty is taken with floats. Functions that are lowered already stay as
/// they are. Failed where something is left.
Status lower(mlir::ModuleOp module);

/// What lower() and the translation to LLVM IR need in a context.
void registerLoweringDialects(mlir::DialectRegistry &registry);

/// What the translation to LLVM IR needs alone.
void registerTranslations(mlir::DialectRegistry &registry);

} // namespace kernelforge::cuda
