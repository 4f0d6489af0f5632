// Schedule spaces of independent knobs: for each the legal range, and what a search tries.
#pragma once

#include "kernelforge/codegen/ScheduleSpace.h"

#include <vector>

namespace kernelforge {

/// A knob with its legal values: the multiples of `multipleOf` from `min` to `max`.
struct KnobRule {
  Knob knob; ///< values that are not legal, or equal, are dropped
  int64_t min = 0;
  int64_t max = 0;
  int64_t multipleOf = 1;
  int64_t analytic = 0; ///< taken without measuring; brought to the nearest legal value
};

/// The space of these knobs, with `check` and without `predict`. Messages name `where`.
ScheduleSpace spaceOf(std::vector<KnobRule> rules, std::string where);

} // namespace kernelforge
