// The only place that chooses: which schedule a kernel gets, and where it came from.
#pragma once

#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/records/RecordStore.h"
#include "kernelforge/support/Error.h"

#include "mlir/IR/BuiltinOps.h"

namespace kernelforge {

/// Gives every kernel of `module` a schedule, and says where it is from and why. In this order:
///   pinned       it is there already: kept, and knobs that it leaves open get analytic values;
///   record       the winner of the records of this kernel, processor, thread count and LLVM;
///   transferred  the winner of the nearest problem of the same kind, where it is legal here;
///   analytic     the code generator's default for this target and thread count.
/// Without `records`, or where they cannot be read (a warning), there are no records.
Status scheduleKernels(mlir::ModuleOp module, const CpuTarget &target, int64_t threads,
                       const RecordStore *records = nullptr);

/// A kernel's schedule as canonical JSON: knobs sorted by name.
std::string scheduleJson(mlir::Operation *kernel);

/// The schedule that scheduleJson printed or a user wrote: an object of integers. Unusable, naming
/// `where`, otherwise. Whether a kernel can have it is for its code generator to say.
Expected<transformer::ScheduleAttr> scheduleFromJson(mlir::MLIRContext *context,
                                                     std::string_view text, std::string_view where);

} // namespace kernelforge
