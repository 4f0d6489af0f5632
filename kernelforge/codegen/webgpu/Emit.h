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

/// The text of a kernel that emit() made `module` and `launching` of, for a target. Unusable where
/// a function holds an operation that has no WGSL.
Expected<std::string> wgslText(mlir::ModuleOp module, const Launching &launching,
                               const KernelAnalysis &kernel, const Target &target);

/// The kernel as WGSL. Entry points are called `entry`, with the phase's number behind it where
/// there are several. Unusable where the kernel is not supported. Loads the dialects that the code
/// is made in into the kernel's context.
Expected<WgslKernel> emitWgsl(const KernelAnalysis &kernel, const Target &target,
                              llvm::StringRef entry);

} // namespace kernelforge::webgpu
