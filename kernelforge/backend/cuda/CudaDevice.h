// NVIDIA GPUs through the driver, which is opened at run time.
#pragma once

#include "kernelforge/backend/Device.h"

#include <memory>
#include <string>

namespace kernelforge {

struct CudaOptions {
  std::string libraryPath; ///< of the driver; empty: the one that the system finds
  int ordinal = 0;         ///< number of the GPU
};

/// Missing, naming what is lacking, where there is no driver or no GPU.
Expected<std::unique_ptr<Device>> createCudaDevice(const CudaOptions &options = {});

} // namespace kernelforge
