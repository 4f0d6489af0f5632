// The only place that chooses: which schedule a kernel gets, and where it came from.
#pragma once

#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Error.h"

#include "mlir/IR/BuiltinOps.h"

namespace kernelforge {

/// Gives every kernel of `module` a schedule. One that is there already is kept: without a source
/// it is `pinned`, and knobs that it leaves open get their analytic values. Otherwise the code
/// generator's analytic default for this target and thread count.
Status scheduleKernels(mlir::ModuleOp module, const CpuTarget &target, int64_t threads);

/// A kernel's schedule as canonical JSON: knobs sorted by name.
std::string scheduleJson(mlir::Operation *kernel);

/// The schedule that scheduleJson printed or a user wrote: an object of integers. Unusable, naming
/// `where`, otherwise. Whether a kernel can have it is for its code generator to say.
Expected<transformer::ScheduleAttr> scheduleFromJson(mlir::MLIRContext *context,
                                                     std::string_view text, std::string_view where);

} // namespace kernelforge
