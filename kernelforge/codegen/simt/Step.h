// What a step ends with: `sample` and `advance`, each a kernel of its own of the family rowwise.
#pragma once

#include "kernelforge/codegen/simt/Emit.h"

namespace kernelforge::simt::step {

// As the families of Emit.h, for kernels that hold one of the two.
Status supports(const KernelAnalysis &);
llvm::SmallVector<Needs> needsOf(const KernelAnalysis &);
Launching emit(mlir::ModuleOp, const KernelAnalysis &, llvm::StringRef entry);

std::string scheduleText(const KernelAnalysis &);

/// A workgroup a row.
Phase emitSample(mlir::ModuleOp module, transformer::KernelOp kernel, transformer::SampleOp op,
                 llvm::StringRef entry);
Needs needsOfSample(transformer::SampleOp op);

} // namespace kernelforge::simt::step
