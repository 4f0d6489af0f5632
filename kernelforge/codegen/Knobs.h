// Reading a schedule's knobs with checks that name the knob, its limit, its value and the nearest
// legal value.
#pragma once

#include "kernelforge/codegen/KnobLimit.h"
#include "kernelforge/codegen/ScheduleSpace.h"
#include "kernelforge/ir/Transformer.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

namespace kernelforge {

/// The knobs of one schedule, read one by one. `values` must outlive the reader.
class KnobReader {
public:
  /// `where` names the kernel in errors.
  KnobReader(std::string where, const KnobValues &values)
      : where(std::move(where)), values(values) {}

  /// Unusable where the knob is missing or not legal.
  Expected<int64_t> get(llvm::StringRef name, const KnobLimit &limit) const;

  /// Unusable where the schedule has a knob that is not among `names`.
  Status checkNames(llvm::ArrayRef<llvm::StringRef> names) const;

private:
  std::string where;
  const KnobValues &values;
};

/// A kernel's schedule as plain values; none where it has no schedule. Unusable where a knob is no
/// integer.
Expected<KnobValues> knobsOf(transformer::KernelOp kernel);

/// The attribute of a schedule.
transformer::ScheduleAttr scheduleAttr(mlir::MLIRContext *context, const KnobValues &values);

/// `where` of an error about a kernel: its name.
std::string kernelName(transformer::KernelOp kernel);

/// Rows that a kernel's root works on: of the size that the leading dimension of `type` follows,
/// {min, max}, equal where it is static.
std::pair<int64_t, int64_t> rowsRange(transformer::KernelOp kernel, mlir::Type type);

/// The same for choosing a schedule: at most 2^30. More rows change no choice, and what is computed
/// from fewer stays in range.
std::pair<int64_t, int64_t> plannedRows(transformer::KernelOp kernel, mlir::Type type);

} // namespace kernelforge
