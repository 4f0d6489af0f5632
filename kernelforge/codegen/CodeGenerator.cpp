#include "kernelforge/codegen/CodeGenerator.h"

namespace kernelforge {

ScheduleSpace fixedSchedule() {
  ScheduleSpace space;
  space.complete = [](const KnobValues &given) { return given; };
  space.check = [](const KnobValues &values) -> Status {
    if (values.empty())
      return {};
    return unusable("schedule is not usable", values.begin()->first,
                    "kernels of this target have no knobs", "leave out the schedule");
  };
  space.predict = [](const KnobValues &) { return 0.0; };
  space.orderClass = [](const KnobValues &) { return std::string("fixed"); };
  return space;
}

} // namespace kernelforge
