// A device around the processor's that fails where it is told to, as devices with memory of their
// own do: nothing is shared with the host, memory begins with NaN, copies and runs happen only when
// somebody waits for them, memory is small, and the device can be lost.
#pragma once

#include "kernelforge/backend/cpu/CpuDevice.h"

#include <functional>
#include <map>
#include <mutex>

namespace kernelforge {

struct Faults {
  int64_t failingAllocation = -1; ///< the one of this number fails, from 0
  int64_t bindingBytes = INT64_MAX;
  int64_t losingSubmit = -1; ///< while the run of this number is under way, from 0
  bool refusesBarriers = false;

  // What happened, over all devices.
  int64_t allocations = 0, submits = 0, devices = 0;
};

/// `faults` must outlive the device.
Expected<std::unique_ptr<Device>> createFaultyDevice(Faults &faults);

} // namespace kernelforge
