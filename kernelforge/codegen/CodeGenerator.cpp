#include "kernelforge/codegen/CodeGenerator.h"

namespace kernelforge {

ScheduleSpace fixedSchedule() {
  ScheduleSpace space;
  space.complete = [](const KnobValues &given) { return given; };
  space.check = [](const KnobValues &values) -> Status {
    if (values.empty())
      return {};
    return unusable("schedule is not usable", values.begin()->first,
                    "as this kernel is computed here, it has no knobs",
                    "leave out the schedule, or say by the knob method how it is to be computed, "
                    "where the target knows several ways");
  };
  space.predict = [](const KnobValues &) { return 0.0; };
  space.orderClass = [](const KnobValues &) { return std::string("fixed"); };
  return space;
}

} // namespace kernelforge
