#include "WebGpuFixture.h"

#include <cstdlib>

namespace kernelforge {

WebGpuOptions testOptions() {
  const char *path = std::getenv("KERNELFORGE_TEST_WEBGPU_LIBRARY");
  return {.libraryPath = path ? path : ""};
}

const TestTarget &testTarget() {
  static const TestTarget target = {
      .kind = "webgpu",
      .affine = R"(
struct Launch { n: u32, tasks: u32, width: u32 }
@group(0) @binding(0) var<storage, read_write> source: array<f32>;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;
@group(0) @binding(2) var<uniform> launch: Launch;
@compute @workgroup_size(64)
fn affine(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let task: u32 = group.y * launch.width + group.x;
  if (task >= launch.tasks) { return; }
  let i: u32 = task * 64u + lane;
  if (i < launch.n) { result[i] = source[i] * 2.0 + 1.0; }
}
)",
      .number = R"(
struct Launch { tasks: u32, width: u32 }
@group(0) @binding(0) var<storage, read_write> result: array<u32>;
@group(0) @binding(1) var<uniform> launch: Launch;
@compute @workgroup_size(1) fn number(@builtin(workgroup_id) group: vec3<u32>) {
  let task: u32 = group.y * launch.width + group.x;
  if (task >= launch.tasks) { return; }
  result[task] = result[task] + task * 3u;
}
)",
      .sum = R"(
struct Launch { n: u32, tasks: u32, width: u32 }
@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> partial_out: array<f32>;
@group(0) @binding(2) var<uniform> launch: Launch;
@compute @workgroup_size(1) fn sum_rows(@builtin(workgroup_id) group: vec3<u32>) {
  let task: u32 = group.y * launch.width + group.x;
  if (task >= launch.tasks) { return; }
  var total: f32 = 0.0;
  for (var i: u32 = task * 16u; i < min(launch.n, task * 16u + 16u); i = i + 1u) { total = total + weight[i]; }
  partial_out[task] = total;
}
struct Last { n: u32, tasks: u32, width: u32 }
@group(0) @binding(0) var<storage, read_write> partial_in: array<f32>;
@group(0) @binding(1) var<storage, read_write> runs: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@group(0) @binding(3) var<uniform> last: Last;
@compute @workgroup_size(1) fn sum_all() {
  var total: f32 = 0.0;
  for (var i: u32 = 0u; i < (last.n + 15u) / 16u; i = i + 1u) { total = total + partial_in[i]; }
  runs[0] = runs[0] + 1u;
  result[0] = total;
  result[1] = f32(runs[0]);
}
)",
      .create = [] { return createWebGpuDevice(testOptions()); },
      .createForKernels = [] { return createWebGpuDevice(testOptions()); },
      .lose = [](Device &device) { ASSERT_TRUE(loseWebGpuDevice(device)); },
      .requiredBy = "KERNELFORGE_REQUIRE_WEBGPU"};
  return target;
}

} // namespace kernelforge
