// What devices that launch blocks of threads have in common.
#pragma once

#include "kernelforge/backend/Device.h"
#include "kernelforge/codegen/Target.h"

#include <functional>
#include <string>
#include <vector>

namespace kernelforge {

/// Why blocks of a phase cannot be launched within these limits: their threads, or the memory that
/// they share, which the target calls `sharedName`. Empty where they can.
std::string blockObstacle(const Phase &phase, const Limits &limits, const char *sharedName);

/// The workspaces that stay from run to run, by artifact and workspace; nothing for all others.
/// Launches of one kernel run in order, so they share the largest that any of them needs at the
/// sizes' maxima. `allocate` gives zeroed memory of so many bytes. Unusable where a size overflows.
Expected<std::vector<std::vector<BufferRef>>>
makeKeptWorkspaces(const Program &program,
                   const std::function<Expected<BufferRef>(int64_t bytes)> &allocate);

} // namespace kernelforge
