// Bringing a weight into planes: the one rowwise operation that reads weights whole. A thread
// writes a word.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/simt/Builder.h"
#include "kernelforge/support/Error.h"
#include "kernelforge/support/WeightLayout.h"

namespace kernelforge::simt {

/// Unusable, naming the kernel, where a pack is of no weight that stands in memory, into no planes,
/// or needed in the kernel that makes it.
Status supportsPack(const KernelAnalysis &kernel, transformer::PackOp pack);

/// The planes that a supported pack makes.
Planes planesOf(transformer::PackOp pack);

/// Emits the phase that writes one plane of `pack`, result `resultIndex` of the kernel, and the
/// zeros that fill it.
Phase emitPackPlane(mlir::ModuleOp module, transformer::KernelOp kernel, transformer::PackOp pack,
                    unsigned resultIndex, const Plane &plane, llvm::StringRef entry);

} // namespace kernelforge::simt
