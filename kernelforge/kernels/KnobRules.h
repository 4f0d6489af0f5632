// Schedule spaces of independent knobs: for each the legal range, and what a search tries.
#pragma once

#include "kernelforge/codegen/KnobLimit.h"
#include "kernelforge/codegen/ScheduleSpace.h"

#include <vector>

namespace kernelforge {

/// A knob with its legal values.
struct KnobRule {
  Knob knob; ///< values that are not legal, or equal, are dropped
  KnobLimit limit;
  int64_t analytic = 0; ///< taken without measuring; brought to the nearest legal value
};

/// The space of these knobs, with `complete` and `check` and without `predict`. Messages name
/// `where`.
ScheduleSpace spaceOf(std::vector<KnobRule> rules, std::string where);

} // namespace kernelforge
