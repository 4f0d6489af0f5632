// A device that runs WGSL through any library that implements webgpu.h.
#pragma once

#include "kernelforge/backend/Device.h"

#include <memory>
#include <string>
#include <vector>

namespace kernelforge {

struct WebGpuOptions {
  /// Path of the library; empty: the wgpu-native that comes with the program.
  std::string libraryPath = {};
  /// A part of the adapter's name, in any case; empty: the one that the library prefers.
  std::string adapterName = {};
};

/// Opens the library and connects to an adapter. Missing where either is not there. Devices share
/// nothing but the open library. What a kernel of theirs looks like is in Convention.h.
Expected<std::unique_ptr<Device>> createWebGpuDevice(const WebGpuOptions &options = {});

/// The names of the adapters that the library of `options` finds, each once. Errors as
/// createWebGpuDevice's.
Expected<std::vector<std::string>> webGpuAdapterNames(const WebGpuOptions &options = {});

/// Where the wgpu-native is that comes with the program. Missing where there is none.
Expected<std::string> webGpuLibraryFile();

/// Takes a WebGPU device away as a reset of its driver would: for tests of what follows. Unusable
/// for another device.
Status loseWebGpuDevice(Device &device);

} // namespace kernelforge
