// Plain SIMT code: one scalar but complete emitter for each family, for every GPU target. From a
// kernel to functions of the func, scf, arith, math, memref and gpu dialects: 32-bit integers, f32,
// flat buffers, workgroup memory and barriers; no vectors, no pointers, nothing of one target.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/Launching.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/codegen/simt/Epilogue.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Error.h"

namespace kernelforge::simt {

/// The dialects that emit() writes in.
void registerDialects(mlir::DialectRegistry &registry);
/// Loads them.
void loadDialects(mlir::MLIRContext &context);

/// Unusable, naming kernel, operation and operand, where no code can be generated for a kernel: an
/// element type that is not computed, a shape of kernel that no emitter knows, or more buffers or
/// workgroup memory than `limits` allow (0: no limit). Fusion asks before it forms a kernel.
Status supports(const KernelAnalysis &kernel, const Limits &limits);

/// Emits one function for each phase at the end of `module`, `entry` with the phase's number behind
/// it where there are several, and says how they are launched. Needs the dialects above. Unusable
/// where the kernel is not supported.
Expected<Launching> emit(mlir::ModuleOp module, const KernelAnalysis &kernel, const Limits &limits,
                         llvm::StringRef entry);

/// What a kernel is and how it is scheduled, for people: "@k: matmul (rms_norm, matmul)", "64
/// columns x 4 rows a workgroup".
std::vector<std::string> describe(const KernelAnalysis &kernel);

/// Lines as comments, "// LINE", of printable ASCII alone: what is not is escaped, as languages end
/// lines at some of it.
std::string commentText(llvm::ArrayRef<std::string> lines);

/// Buffers, workgroup memory (bytes) and threads of a workgroup that a phase takes.
struct Needs {
  int64_t buffers = 0, sharedBytes = 0, blockThreads = threads;
};

/// Whether rows are multiplied with an argument or looked up in it: one that is larger than a
/// binding can be bound in pieces.
bool isMatrix(mlir::BlockArgument argument);

/// Unusable, naming the kernel, where a phase takes more of something than there is. A matrix that
/// has more bytes than a buffer can counts as several, or is too much where buffers are not
/// counted.
Status checkLimits(transformer::KernelOp kernel, llvm::ArrayRef<Needs> phases,
                   const Limits &limits);

// The families: for kernels whose operations and element types are supported, whether their shape
// is; what each phase takes; code for a supported kernel.
namespace matmul {
Status supports(const KernelAnalysis &);
llvm::SmallVector<Needs> needsOf(const KernelAnalysis &);
Launching emit(mlir::ModuleOp, const KernelAnalysis &, llvm::StringRef entry);
/// Rows of the result that a thread computes.
int64_t rowsOfThread(const KernelAnalysis &);
} // namespace matmul
namespace attention {
Status supports(const KernelAnalysis &);
llvm::SmallVector<Needs> needsOf(const KernelAnalysis &);
Launching emit(mlir::ModuleOp, const KernelAnalysis &, llvm::StringRef entry);
} // namespace attention
namespace rowwise {
Status supports(const KernelAnalysis &);
llvm::SmallVector<Needs> needsOf(const KernelAnalysis &);
Launching emit(mlir::ModuleOp, const KernelAnalysis &, llvm::StringRef entry);
} // namespace rowwise

/// Buffers that computing and storing `sinks` reads and writes.
int64_t countBuffers(llvm::ArrayRef<Sink> sinks);

/// Name of phase `index` of `count`.
std::string phaseEntry(llvm::StringRef entry, size_t index, size_t count);

} // namespace kernelforge::simt
