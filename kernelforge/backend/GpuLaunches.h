// What devices that launch blocks of threads have in common.
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/codegen/Target.h"

#include <string>
#include <vector>

namespace kernelforge {

/// Why blocks of a phase cannot be launched within these limits: their threads, or the memory that
/// they share, which the target calls `sharedName`. Empty where they can.
std::string blockObstacle(const Phase &phase, const Limits &limits, const char *sharedName);

/// Bytes of the workspaces that stay from run to run, by artifact and workspace; 0 for all others.
/// Launches of one kernel run in order, so they share the largest that any of them needs at the
/// sizes' maxima. Unusable where one overflows.
Expected<std::vector<std::vector<int64_t>>> keptWorkspaces(const Program &program);

} // namespace kernelforge
