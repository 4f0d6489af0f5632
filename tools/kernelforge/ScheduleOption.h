// Options that take a schedule: JSON, or @FILE for one in a file.
#pragma once

#include "kernelforge/codegen/ScheduleSpace.h"
#include "kernelforge/support/Error.h"

#include <string>

namespace kernelforge::cli {

/// The knobs that `option` was given as `text`. Unusable where that is no schedule.
Expected<KnobValues> readSchedule(const std::string &option, const std::string &text);

} // namespace kernelforge::cli
