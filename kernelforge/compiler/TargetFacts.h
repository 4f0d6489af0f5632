// What this build knows of kinds of targets beyond making code for them. Targets.cpp answers.
#pragma once

#include "kernelforge/support/Error.h"

#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// Kinds of targets that a build can have: those of this one first, the default before all.
std::vector<std::string> knownTargetKinds();

/// Missing where this build cannot measure schedules and suites on targets of `kind`: the workers
/// that do, and the records that they make, are for some kinds only. Else errors as
/// findGenerator's.
Status checkMeasured(std::string_view kind);

/// Settings of this process's environment that libraries of devices look at. For programs, before
/// they start threads.
void prepareEnvironment();

} // namespace kernelforge
