// From a scheduled kernel to the function that computes it: one emitter per family, each with its
// knobs and its analytic default schedule beside it.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/Launching.h"
#include "kernelforge/codegen/ScheduleSpace.h"
#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Error.h"

namespace kernelforge::cpu {

/// Unusable, naming kernel, operation and operand, where no code can be generated for a kernel: an
/// element type that is not computed, or a shape of kernel that no emitter knows. Fusion asks
/// before it forms a kernel; scheduleSpace and emitKernel ask before anything else.
Status supports(const KernelAnalysis &kernel);

/// The schedules that a kernel can have on `target` with `threads` threads, and among them the one
/// that the code generator chooses without measuring, from registers, caches and threads. Unusable
/// where the kernel is not supported. Needs the kernel no more.
Expected<ScheduleSpace> scheduleSpace(const KernelAnalysis &kernel, const Target &target,
                                      int64_t threads);

/// Emits the function `entry` at the end of `module` for a kernel that carries a schedule, and says
/// how it is launched. Unusable, naming the knob, its limit, its value and the nearest legal one,
/// where the schedule is not legal.
Expected<Launching> emitKernel(mlir::ModuleOp module, const KernelAnalysis &kernel,
                               const Target &target, llvm::StringRef entry);

// The families. Same meaning as above, for kernels of that family; schedules and code of supported
// ones.
namespace matmul {
Status supports(const KernelAnalysis &);
Expected<ScheduleSpace> scheduleSpace(const KernelAnalysis &, const Target &, int64_t threads);
Expected<Launching> emit(mlir::ModuleOp, const KernelAnalysis &, const Target &, llvm::StringRef);
} // namespace matmul
namespace attention {
Status supports(const KernelAnalysis &);
Expected<ScheduleSpace> scheduleSpace(const KernelAnalysis &, const Target &, int64_t threads);
Expected<Launching> emit(mlir::ModuleOp, const KernelAnalysis &, const Target &, llvm::StringRef);
} // namespace attention
namespace rowwise {
Status supports(const KernelAnalysis &);
Expected<ScheduleSpace> scheduleSpace(const KernelAnalysis &, const Target &, int64_t threads);
Expected<Launching> emit(mlir::ModuleOp, const KernelAnalysis &, const Target &, llvm::StringRef);
} // namespace rowwise

} // namespace kernelforge::cpu
