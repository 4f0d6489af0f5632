// What Dawn has beyond the standard: switches of its own, and matrices of subgroups.
#pragma once

#include <webgpu.h>

#include <string>
#include <vector>

namespace kernelforge::webgpu {

struct Api;

/// As Dawn's own header has them. A chain of DawnMatrices asks an adapter's description for the
/// shapes that its matrix units multiply.
struct DawnMatrix {
  uint32_t componentType = 0, resultComponentType = 0;
  uint32_t m = 0, n = 0, k = 0;
  uint32_t minSubgroupSize = 0, maxSubgroupSize = 0;
};
struct DawnMatrices {
  WGPUChainedStruct chain = {};
  size_t count = 0;
  const DawnMatrix *matrices = nullptr;
};

/// What instances, adapters and devices of Dawn are asked for with (docs/gpu-code.md says why):
/// features that are not in the standard, f16 on NVIDIA's GPUs, the memory model that matrices
/// need, exact timestamps, and no clamps of indices: the driver keeps accesses within buffers.
/// Chained as it is; nothing writes to it.
WGPUChainedStruct *dawnToggles();

/// Shapes of matrices of an adapter, as features of targets are called
/// ("subgroup-matrix-f16-16x16x16"), and the feature to ask a device for so that it has them.
struct DawnMatrixFeatures {
  WGPUFeatureName feature = {};
  std::vector<std::string> words; ///< sorted; empty: there are none, or this Dawn has other numbers
};
DawnMatrixFeatures dawnMatrices(const Api &api, WGPUAdapter adapter);

/// A shader that a device compiles only where it has such matrices.
extern const char *const dawnMatrixShader;

} // namespace kernelforge::webgpu
