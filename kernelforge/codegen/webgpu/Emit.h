// Kernels as WGSL, and how they are launched.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/Launching.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Error.h"

#include <string>

namespace kernelforge::webgpu {

/// A kernel's code: a WGSL module with an entry point for each phase.
struct WgslKernel {
  std::string text;
  Launching launching;
};

/// The code of a kernel as emit() in Methods.h makes it, where weights that a target cannot bind as
/// a whole are bound in pieces (Pieces.h). Unusable, naming kernel and phase, where that are more
/// buffers than the target can bind; and as emit().
Expected<Launching> emitInPieces(mlir::ModuleOp module, const KernelAnalysis &kernel,
                                 const Target &target, llvm::StringRef entry);

/// The text of a kernel that emitInPieces() made `module` and `launching` of, for a target.
/// Unusable where a function holds an operation that has no WGSL.
Expected<std::string> wgslText(mlir::ModuleOp module, const Launching &launching,
                               const KernelAnalysis &kernel, const Target &target);

/// The kernel as WGSL. Entry points are called `entry`, with the phase's number behind it where
/// there are several. Unusable where the kernel is not supported. Loads the dialects that the code
/// is made in into the kernel's context.
Expected<WgslKernel> emitWgsl(const KernelAnalysis &kernel, const Target &target,
                              llvm::StringRef entry);

} // namespace kernelforge::webgpu
