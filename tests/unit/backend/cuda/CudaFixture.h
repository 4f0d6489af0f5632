// The CUDA device of the tests.
#pragma once

#include "DeviceFixture.h"

#include "kernelforge/backend/cuda/CudaDevice.h"

namespace kernelforge {

/// The driver is what KERNELFORGE_TEST_CUDA_LIBRARY names (libcuda.so.1), or the made-up one.
CudaOptions testOptions();

/// A function of the driver in use; null where it has none of that name.
void *driverFunction(const char *name);

/// What the made-up driver was asked for since the last call, a line each.
std::string driverLog();

/// A module with these functions.
std::string ptx(std::string_view functions);

} // namespace kernelforge
