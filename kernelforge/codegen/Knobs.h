// Reading a schedule's knobs with checks that name the knob, its limit, its value and the nearest
// legal value.
#pragma once

#include "kernelforge/codegen/KnobLimit.h"
#include "kernelforge/codegen/ScheduleSpace.h"
#include "kernelforge/ir/Transformer.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <limits>

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

/// Says which schedules of a space are legal, and how long they may be expected to take: `read`
/// gives checked knobs in a form of their own or the error, `cycles` those of a core of 3 GHz.
template <typename Read, typename Cycles>
void setRule(ScheduleSpace &space, Read read, Cycles cycles) {
  space.check = [read](const KnobValues &values) -> Status {
    return read(values).transform([](const auto &) {});
  };
  space.predict = [read, cycles](const KnobValues &values) {
    const auto knobs = read(values);
    return knobs ? cycles(*knobs) / 3e9 : std::numeric_limits<double>::infinity();
  };
}

} // namespace kernelforge
