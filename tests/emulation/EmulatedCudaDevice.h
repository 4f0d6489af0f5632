// A device of the kind cuda on this processor: what its launches compute is what their PTX says.
#pragma once

#include "kernelforge/backend/Device.h"

namespace kernelforge {

/// Its chip is an sm_90. Each launch may touch its buffers alone, and write those that it says.
std::unique_ptr<Device> createEmulatedCudaDevice();

} // namespace kernelforge
