// The WebGPU device of the tests.
#pragma once

#include "DeviceFixture.h"

#include "kernelforge/backend/webgpu/WebGpuDevice.h"

namespace kernelforge {

/// The library is what KERNELFORGE_TEST_WEBGPU_LIBRARY names, if it does.
WebGpuOptions testOptions();

} // namespace kernelforge
