// The memory that weights, caches and intermediates of a device lie in.
#pragma once

#include "kernelforge/backend/Device.h"

namespace kernelforge {

struct FreeMemory {
  int64_t bytes = 0; ///< 0: nobody knows
  std::string text;  ///< of whom: "this machine has 1024", "NVIDIA H200 has 1024 free"
};

/// The host's memory where the device shares it, or says nothing of its own. What is to fit is held
/// against it before any of it is allocated. Errors as those of Device::freeBytes().
Expected<FreeMemory> freeMemory(const Device &device);

} // namespace kernelforge
