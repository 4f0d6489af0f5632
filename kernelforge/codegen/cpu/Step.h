// What a step ends with: `sample` and `advance`, each a kernel of its own of the family rowwise.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/Launching.h"
#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Error.h"

namespace kernelforge::cpu::step {

// As the families of Emit.h, for kernels that hold one of the two. They have no knobs.
Status supports(const KernelAnalysis &);
Expected<Launching> emit(mlir::ModuleOp, const KernelAnalysis &, const Target &, llvm::StringRef);

/// A task a row.
Launching emitSample(mlir::ModuleOp, transformer::KernelOp, transformer::SampleOp, const Target &,
                     llvm::StringRef entry);

} // namespace kernelforge::cpu::step
