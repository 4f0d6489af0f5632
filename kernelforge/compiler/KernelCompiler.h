// From one scheduled kernel to its artifact: emit, lower, compile, or take it from the cache; or
// the call of the library that runs it.
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/codegen/CodeGenerator.h"
#include "kernelforge/compiler/ObjectCache.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Error.h"

#include "mlir/IR/OwningOpRef.h"

namespace kernelforge {

/// Symbol of a kernel's code: from its hash, schedule and variant, without names or locations.
std::string entrySymbol(transformer::KernelOp kernel);

/// Emits and lowers a kernel. One that names its `code` (a module at stage target or llvm) is
/// lowered from that. Unusable where target or schedule do not allow it.
Expected<EmittedKernel> emitKernelModule(const KernelAnalysis &kernel, const Target &target);

/// Emits every kernel's function into `module` itself and names it in the kernel (`code`,
/// `launching`): stage target, or with `lower` stage llvm. Equal kernels share a function. Unusable
/// as emitKernelModule, or where a symbol of the module has the function's name. Kernels that
/// another variant runs have no function and stay as they are.
Status emitKernelsInto(mlir::ModuleOp module, const Target &target, bool lower,
                       KernelAnalyses &analyses);

/// The artifacts of all kernels of `module`, launched or not, in module order: from the cache, else
/// compiled, by up to `threads` threads, and stored. Unusable or Failed naming the first kernel
/// that cannot be.
Expected<std::vector<Artifact>> compileKernels(mlir::ModuleOp module, const Target &target,
                                               const ObjectCache &cache, KernelAnalyses &analyses,
                                               int threads = 1);

} // namespace kernelforge
