// How long runs take on a device with a clock of its own.
#pragma once

#include "kernelforge/backend/Device.h"
#include "kernelforge/measure/Timing.h"

namespace kernelforge {

/// Makes `calls` runs, of `programs` in turns from number `next` on, which becomes whose turn it is
/// then, and tells what they took by the device's clock. Errors as those of Device::time.
Expected<CallTimes> timedRuns(Device &device, std::span<BoundProgram *const> programs,
                              std::span<const int64_t> sizes, int64_t calls, size_t &next);

} // namespace kernelforge
