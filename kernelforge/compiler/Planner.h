// The only place that chooses: which variant and schedule a kernel gets, and where they came from.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/records/RecordStore.h"
#include "kernelforge/support/Error.h"

#include "mlir/IR/BuiltinOps.h"

namespace kernelforge {

/// Gives every kernel of `module` a schedule or another variant than generated, and says where it
/// is from and why. In this order:
///   pinned       it is there already: kept, and knobs that it leaves open get analytic values; a
///                variant that cannot run here is an error;
///   record       the winner of the records of this kernel, processor, thread count and LLVM; else
///                that of a device of this name which comes with the program (ShippedRecords);
///   transferred  the winner of the nearest problem of the same kind, whose schedule is legal here;
///   analytic     the code generator's default for this target and thread count: also where the
///                records of this kernel, or of the nearest problem, show nothing better.
/// Without `records` there are none, nor shipped ones; where they cannot be read (a warning), there
/// are shipped ones alone.
///
/// A variant is for kernels that are one library call (libraryCall()), and reads the weight as
/// it lies in the file. Records are keyed by the kernel as it was fused, that is with the layout
/// that generated code reads, whatever ran: all that computes the same is compared. Where a variant
/// is chosen, the weight becomes row-major, in the kernel and in the functions. This changes the
/// kernel's hash, which nobody asks for again: a kernel with a variant is pinned from then on.
/// Where another kernel reads the same weight packed, code is generated, and the reason says so.
Status scheduleKernels(mlir::ModuleOp module, const Target &target, int64_t threads,
                       const RecordStore *records, KernelAnalyses &analyses);

/// A kernel's schedule as canonical JSON: knobs sorted by name.
std::string scheduleJson(mlir::Operation *kernel);

/// The schedule that scheduleJson printed or a user wrote: an object of integers. Unusable, naming
/// `where`, otherwise. Whether a kernel can have it is for its code generator to say.
Expected<transformer::ScheduleAttr> scheduleFromJson(mlir::MLIRContext *context,
                                                     std::string_view text, std::string_view where);

} // namespace kernelforge
