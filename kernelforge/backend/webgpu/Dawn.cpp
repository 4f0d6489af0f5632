#include "kernelforge/backend/webgpu/Dawn.h"

#include "kernelforge/backend/webgpu/Api.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

namespace kernelforge::webgpu {

namespace {

/// Numbers that are Dawn's own may move from one build to the next: those of each span of builds.
struct Build {
  uint32_t matrixFeature; ///< ChromiumExperimentalSubgroupMatrix
  uint32_t matrixChain;   ///< AdapterPropertiesSubgroupMatrixConfigs
};
constexpr Build builds[] = {
    {0x00050034, 0x0005003B}, // of 2026
};

constexpr uint32_t togglesChain = 0x0005000A;

/// DawnTogglesDescriptor.
struct Toggles {
  WGPUChainedStruct chain;
  size_t enabledCount;
  const char *const *enabled;
  size_t disabledCount;
  const char *const *disabled;
};

/// WGPUSubgroupMatrixComponentType.
enum Component : uint32_t { F32 = 1, F16 = 2, I32 = 4, I8 = 6 };

/// Numbers that a build means otherwise would be such as no matrix has.
bool isLikely(const DawnMatrix &matrix) {
  auto fits = [](uint32_t extent) { return extent >= 1 && extent <= 256; };
  return fits(matrix.m) && fits(matrix.n) && fits(matrix.k) && matrix.componentType <= 16 &&
         matrix.resultComponentType <= 16;
}

} // namespace

const char *const dawnMatrixShader = R"(enable chromium_experimental_subgroup_matrix;
enable chromium_disable_uniformity_analysis;
@compute @workgroup_size(1) fn main() {}
)";

WGPUChainedStruct *dawnToggles() {
  static constexpr std::array<const char *, 4> enabled = {
      "allow_unsafe_apis", "vulkan_enable_f16_on_nvidia", "use_vulkan_memory_model",
      "disable_robustness"};
  static constexpr std::array<const char *, 1> disabled = {"timestamp_quantization"};
  static Toggles toggles = {{nullptr, static_cast<WGPUSType>(togglesChain)},
                            enabled.size(),
                            enabled.data(),
                            disabled.size(),
                            disabled.data()};
  return &toggles.chain;
}

DawnMatrixFeatures dawnMatrices(const Api &api, WGPUAdapter adapter) {
  DawnMatrixFeatures found;
  for (const Build &build : builds) {
    found.feature = static_cast<WGPUFeatureName>(build.matrixFeature);
    if (!api.dawnFreeMatrices || !api.wgpuAdapterHasFeature(adapter, found.feature))
      continue;
    DawnMatrices matrices;
    matrices.chain.sType = static_cast<WGPUSType>(build.matrixChain);
    WGPUAdapterInfo info = WGPU_ADAPTER_INFO_INIT;
    info.nextInChain = &matrices.chain;
    // One that does not know the chain says so.
    if (api.wgpuAdapterGetInfo(adapter, &info) != WGPUStatus_Success)
      continue;
    const std::vector<DawnMatrix> all(matrices.matrices, matrices.matrices + matrices.count);
    if (std::ranges::all_of(all, isLikely)) {
      for (const DawnMatrix &one : all)
        if (one.componentType == F16 && one.resultComponentType == F32)
          found.words.push_back(fmt::format("subgroup-matrix-f16-{}x{}x{}", one.m, one.n, one.k));
        else if (one.componentType == I8 && one.resultComponentType == I32)
          found.words.push_back(fmt::format("subgroup-matrix-i8-{}x{}x{}", one.m, one.n, one.k));
    }
    api.dawnFreeMatrices(matrices);
    api.wgpuAdapterInfoFreeMembers(info);
    if (!found.words.empty())
      break;
  }
  std::ranges::sort(found.words);
  const auto same = std::ranges::unique(found.words);
  found.words.erase(same.begin(), same.end());
  return found;
}

} // namespace kernelforge::webgpu
