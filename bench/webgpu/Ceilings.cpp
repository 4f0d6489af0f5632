// What a WebGPU device does at most, as kernels of WGSL without any purpose show it: fused
// multiply-adds, matrices of a subgroup, copying, reading. Kernels are held against these.
//
//   webgpu-ceilings [LIBRARY]
//
// One row of JSON each: {"name", "seconds", "tflops" or "gb_per_s"}. The time is that of one launch
// among many that wait for each other, by the device's clock, the median of several runs.
#include "kernelforge/backend/webgpu/WebGpuDevice.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

using namespace kernelforge;

namespace {

struct Kernel {
  std::string name = {}, code = {};
  int64_t blocks = 1, threads = 256;
  int64_t inBytes = 0, outBytes = 0; ///< of its buffers; no input: one buffer
  double flops = 0, bytes = 0;       ///< what a launch computes or moves
};

constexpr int64_t blocksOfAll = int64_t(132) * 64; ///< enough to fill any device

/// The bindings and the number of the workgroup, which the launch passes.
std::string prelude(const Kernel &kernel, const std::string &element) {
  int binding = 0;
  std::string text = "struct Launch { tasks: u32, width: u32 }\n";
  if (kernel.inBytes > 0)
    text += fmt::format("@group(0) @binding({}) var<storage, read> x: array<{}>;\n", binding++,
                        element);
  text += fmt::format("@group(0) @binding({}) var<storage, read_write> y: array<{}>;\n", binding++,
                      element);
  return text +
         fmt::format("@group(0) @binding({}) var<uniform> launch: Launch;\n"
                     "@compute @workgroup_size({}) fn k(@builtin(workgroup_id) g: vec3<u32>, "
                     "@builtin(local_invocation_index) t: u32) {{\n"
                     "  let block = g.y * launch.width + g.x;\n  if (block >= launch.tasks) {{ "
                     "return; }}\n",
                     binding, kernel.threads);
}

/// Chains of multiply-adds in four vectors of each thread.
Kernel multiplyAdds() {
  constexpr int64_t turns = 4096;
  Kernel kernel{.name = "fma f32", .blocks = blocksOfAll};
  kernel.outBytes = kernel.blocks * kernel.threads * 4;
  kernel.flops = double(kernel.blocks * kernel.threads * turns * 4 * 4 * 2);
  kernel.code = prelude(kernel, "f32") + fmt::format(R"(
  let i = block * {}u + t;
  let c = vec4<f32>(0.999);
  var p = vec4<f32>(f32(i)); var q = p + c; var r = q + c; var s = r + c;
  for (var turn = 0u; turn < {}u; turn++) {{
    p = fma(p, c, q); q = fma(q, c, p); r = fma(r, c, s); s = fma(s, c, r);
  }}
  let all = p + q + r + s;
  y[i] = all.x + all.y + all.z + all.w;
}}
)",
                                                     kernel.threads, turns);
  return kernel;
}

/// Four by four sums of each subgroup, from operands in registers.
Kernel matrices(const std::string &name, const std::string &element, int64_t depth,
                const std::string &sum) {
  constexpr int64_t turns = 2048, side = 4, subgroup = 32;
  Kernel kernel{.name = name, .blocks = int64_t(132) * 8, .threads = 128};
  kernel.outBytes = 1 << 20;
  const int64_t subgroups = kernel.blocks * kernel.threads / subgroup;
  kernel.flops = double(subgroups * turns * side * side * 16 * 16 * depth * 2);
  std::string head = "enable chromium_experimental_subgroup_matrix;\nenable subgroups;\n";
  if (element == "f16")
    head += "enable f16;\n";
  std::string body, loop, end;
  for (int64_t i = 0; i < side; ++i) {
    body += fmt::format("  let a{0} = subgroup_matrix_left<{1}, {2}, 16>({3});\n"
                        "  let b{0} = subgroup_matrix_right<{1}, 16, {2}>({3});\n",
                        i, element, depth, i + 1);
    for (int64_t j = 0; j < side; ++j) {
      body += fmt::format("  var c{}{} = subgroup_matrix_result<{}, 16, 16>();\n", i, j, sum);
      loop += fmt::format("    c{0}{1} = subgroupMatrixMultiplyAccumulate(a{0}, b{1}, c{0}{1});\n",
                          i, j);
      end += fmt::format("  subgroupMatrixStore<row_major>(&y, (block * 16u + {}u) % 512u * 256u, "
                         "c{}{}, 16u);\n",
                         i * side + j, i, j);
    }
  }
  kernel.code = head + "diagnostic(off, chromium.subgroup_matrix_uniformity);\n" +
                prelude(kernel, sum) + body +
                fmt::format("  for (var turn = 0u; turn < {}u; turn++) {{\n", turns) + loop +
                "  }\n" + end + "}\n";
  return kernel;
}

Kernel copying(int64_t bytes) {
  Kernel kernel{.name = fmt::format("copy {} MB", bytes >> 20)};
  kernel.blocks = bytes / 16 / kernel.threads;
  kernel.inBytes = kernel.outBytes = bytes;
  kernel.bytes = 2.0 * double(bytes);
  kernel.code = prelude(kernel, "vec4<u32>") + "  y[block * 256u + t] = x[block * 256u + t];\n}\n";
  return kernel;
}

/// Reading alone, which is what a matmul of one row does: the ceiling of one of so many bytes.
Kernel reading(double megabytes) {
  constexpr int64_t each = 8;
  Kernel kernel{.name = fmt::format("read {} MB", megabytes)};
  kernel.blocks = int64_t(megabytes * 1e6) / 16 / kernel.threads / each;
  kernel.inBytes = kernel.blocks * kernel.threads * each * 16;
  kernel.outBytes = 1 << 16;
  kernel.bytes = double(kernel.inBytes);
  std::string loads, all;
  for (int64_t i = 0; i < each; ++i) {
    loads += fmt::format("  let v{0} = x[block * {1}u + t + {2}u];\n", i, each * kernel.threads,
                         i * kernel.threads);
    all += fmt::format("{}v{}", i > 0 ? " ^ " : "", i);
  }
  kernel.code = prelude(kernel, "vec4<u32>") + loads + "  let all = " + all +
                ";\n  if (all.x == 0x12345u && all.y == 77u) { y[t] = all; }\n}\n";
  return kernel;
}

Kernel nothing() {
  Kernel kernel{.name = "dispatch", .threads = 64, .outBytes = 4096};
  kernel.code = prelude(kernel, "u32") + "  y[t] = y[t] + 1u;\n}\n";
  return kernel;
}

Program programOf(const Kernel &kernel, int launches) {
  Program program;
  program.function = kernel.name;
  Phase phase;
  phase.entry = "k";
  phase.block = {kernel.threads, 1, 1};
  phase.grid = kernel.blocks;
  std::vector<int> buffers;
  if (kernel.inBytes > 0) {
    program.buffers.push_back({"x", BufferKind::Weight, kernel.inBytes, 0});
    program.arguments = {0};
    phase.parameters.push_back({Parameter::Kind::Buffer, 0, Access::Read});
    buffers.push_back(0);
  }
  const int result = int(program.buffers.size());
  program.buffers.push_back({"y", BufferKind::Argument, kernel.outBytes, 0});
  program.results = {result};
  phase.parameters.push_back({Parameter::Kind::Buffer, result, Access::ReadWrite});
  buffers.push_back(result);
  Artifact artifact;
  artifact.kernel = kernel.name;
  artifact.entry = "k";
  artifact.code = kernel.code;
  artifact.launching.phases = {phase};
  program.artifacts = {artifact};
  for (int i = 0; i < launches; ++i)
    program.launches.push_back({0, buffers, {}});
  return program;
}

Status measure(Device &device, const Kernel &kernel) {
  constexpr double perRun = 5e-3;
  constexpr int rounds = 7;
  const double about = std::max({kernel.flops / 100e12, kernel.bytes / 4e12, 3e-6});
  const int launches = std::clamp(int(perRun / about), 4, 400);
  const auto program = std::make_shared<const Program>(programOf(kernel, launches));
  KF_TRY(auto loaded, device.load(std::span(&program, 1)));
  ProgramBuffers buffers;
  if (kernel.inBytes > 0) {
    KF_TRY(BufferRef in, device.allocate(kernel.inBytes, MemoryUse::Weights));
    buffers.arguments = {in};
  }
  KF_TRY(BufferRef out, device.allocate(kernel.outBytes, MemoryUse::Transfer));
  buffers.results = {out};
  KF_TRY(auto bound, loaded.front()->bind(std::move(buffers)));
  BoundProgram *const programs[] = {bound.get()};
  KF_TRY(auto seconds, device.time(programs, {}, rounds + 2));
  std::vector<double> &all = seconds.front();
  all.erase(all.begin(), all.begin() + 2);
  std::ranges::sort(all);
  const double median = all[all.size() / 2] / launches;
  std::string rate;
  if (kernel.flops > 0)
    rate = fmt::format(", \"tflops\": {:.1f}", kernel.flops / median / 1e12);
  else if (kernel.bytes > 0)
    rate = fmt::format(", \"gb_per_s\": {:.0f}", kernel.bytes / median / 1e9);
  fmt::print("{{\"name\": \"{}\", \"seconds\": {:.4g}{}}}\n", kernel.name, median, rate);
  return {};
}

} // namespace

int main(int argc, char **argv) {
  WebGpuOptions options;
  if (argc > 1)
    options.libraryPath = argv[1];
  auto device = createWebGpuDevice(options);
  if (!device) {
    fmt::print(stderr, "webgpu-ceilings: error: {}\n", device.error().line());
    return 3;
  }
  const DeviceInfo &info = (*device)->info();
  fmt::print("{{\"device\": \"{}\", \"driver\": \"{}\"}}\n", info.name, info.driver);
  auto has = [&](const char *feature) {
    return std::ranges::find(info.features, feature) != info.features.end();
  };
  std::vector<Kernel> kernels = {multiplyAdds(), nothing()};
  // What stays in a cache and what does not; the weights of matmuls of one row.
  for (int64_t megabytes : {32, 256})
    kernels.push_back(copying(megabytes << 20));
  for (double megabytes : {10.5, 33.6, 36.7, 62.4, 117.0})
    kernels.push_back(reading(megabytes));
  if (has("subgroup-matrix-f16-16x16x16"))
    kernels.push_back(matrices("matrices f16", "f16", 16, "f32"));
  if (has("subgroup-matrix-i8-16x16x32"))
    kernels.push_back(matrices("matrices i8", "i8", 32, "i32"));
  int failures = 0;
  for (const Kernel &kernel : kernels)
    if (const Status status = measure(**device, kernel); !status) {
      fmt::print(stderr, "webgpu-ceilings: error: {}\n", status.error().line());
      ++failures;
    }
  return failures > 0 ? 4 : 0;
}
