// From a scheduled kernel to the function that computes it: one emitter per family, each with its
// knobs and its analytic default schedule beside it.
#pragma once

#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/codegen/Launching.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Error.h"

namespace kernelforge::cpu {

/// The schedule that the code generator chooses without measuring, from registers, caches and
/// `threads`. Unusable, naming kernel and op, where this target cannot compute the kernel.
Expected<transformer::ScheduleAttr> defaultSchedule(transformer::KernelOp kernel,
                                                    const CpuTarget &target, int64_t threads);

/// Emits the function `entry` at the end of `module` for a kernel that carries a schedule, and says
/// how it is launched. Unusable, naming the knob, its limit, its value and the nearest legal one,
/// where the schedule is not legal.
Expected<Launching> emitKernel(mlir::ModuleOp module, transformer::KernelOp kernel,
                               const CpuTarget &target, llvm::StringRef entry);

// The families. Same meaning as above, for kernels of that family.
namespace matmul {
Expected<transformer::ScheduleAttr> defaultSchedule(transformer::KernelOp, const CpuTarget &,
                                                    int64_t threads);
Expected<Launching> emit(mlir::ModuleOp, transformer::KernelOp, const CpuTarget &, llvm::StringRef);
} // namespace matmul
namespace attention {
Expected<transformer::ScheduleAttr> defaultSchedule(transformer::KernelOp, const CpuTarget &,
                                                    int64_t threads);
Expected<Launching> emit(mlir::ModuleOp, transformer::KernelOp, const CpuTarget &, llvm::StringRef);
} // namespace attention
namespace rowwise {
Expected<transformer::ScheduleAttr> defaultSchedule(transformer::KernelOp, const CpuTarget &,
                                                    int64_t threads);
Expected<Launching> emit(mlir::ModuleOp, transformer::KernelOp, const CpuTarget &, llvm::StringRef);
} // namespace rowwise

/// Integer knob of a kernel's schedule, checked: Unusable where it is missing, no integer, or out
/// of [min, max] or no multiple of `multipleOf`; the message names the nearest legal value.
Expected<int64_t> knob(transformer::KernelOp kernel, llvm::StringRef name, int64_t min, int64_t max,
                       int64_t multipleOf = 1);

/// Unusable, naming the knob, where the kernel's schedule has one that is not among `names`.
Status checkKnobNames(transformer::KernelOp kernel, llvm::ArrayRef<llvm::StringRef> names);

/// A schedule of integer knobs.
transformer::ScheduleAttr
makeSchedule(mlir::MLIRContext *context,
             llvm::ArrayRef<std::pair<llvm::StringRef, int64_t>> knobs);

/// `where` of an error about a kernel: its name.
std::string kernelName(transformer::KernelOp kernel);

} // namespace kernelforge::cpu
