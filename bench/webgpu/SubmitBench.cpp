// What the host does for a run of a WebGPU device: seconds to encode and submit it, without the
// wait, and with it; and how long a run takes where the next one is submitted before its result is
// read. The kernels are as small as they can be, four storage buffers each, and the launches depend
// on each other, as in a step of a decoder.
//
//   submit-bench [LIBRARY [LAUNCHES [KERNELS [ROUNDS]]]]
//
// LIBRARY implements webgpu.h; a dash, and nothing, is the wgpu-native that was set up. Prints
// medians, and the least.
#include "kernelforge/backend/webgpu/WebGpuDevice.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

using namespace kernelforge;

namespace {

using Clock = std::chrono::steady_clock;

double microsecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

constexpr int buffersOfALaunch = 4;

/// Adds three buffers to a fourth.
std::string code(int kernel) {
  std::string text = "struct Launch { n: u32, tasks: u32, width: u32 }\n";
  for (int i = 0; i < buffersOfALaunch; ++i)
    text += fmt::format("@group(0) @binding({}) var<storage, read_write> b{}: array<f32>;\n", i, i);
  return text + fmt::format(R"(@group(0) @binding({0}) var<uniform> launch: Launch;
@compute @workgroup_size(64) fn add{1}(@builtin(local_invocation_index) lane: u32) {{
  if (lane < launch.n) {{ b3[lane] += b0[lane] + b1[lane] + b2[lane] * {1}.0; }}
}}
)",
                            buffersOfALaunch, kernel);
}

std::shared_ptr<const Program> program(int launches, int kernels) {
  auto program = std::make_shared<Program>();
  program->function = "submit_bench";
  program->sizes = {{"n", 1, 64}};
  for (int i = 0; i < buffersOfALaunch + 1; ++i) {
    program->buffers.push_back({fmt::format("b{}", i), BufferKind::Argument, Extent(4, 0), 0});
    (i < buffersOfALaunch ? program->arguments : program->results).push_back(i);
  }
  for (int k = 0; k < kernels; ++k) {
    Phase phase;
    phase.entry = fmt::format("add{}", k);
    for (int i = 0; i < buffersOfALaunch; ++i)
      phase.parameters.push_back({Parameter::Kind::Buffer, i, Access::ReadWrite});
    phase.parameters.push_back({Parameter::Kind::Size, 0, Access::Read});
    phase.block = {64, 1, 1};
    Artifact artifact;
    artifact.kernel = phase.entry;
    artifact.code = code(k);
    artifact.launching.phases = {phase};
    artifact.sizeNames = {"n"};
    program->artifacts.push_back(std::move(artifact));
  }
  for (int i = 0; i < launches; ++i) {
    Launch launch;
    launch.artifact = i % kernels;
    for (int b = 0; b < buffersOfALaunch; ++b)
      launch.buffers.push_back((i + b) % (buffersOfALaunch + 1));
    launch.sizes = {0};
    program->launches.push_back(std::move(launch));
  }
  return program;
}

Status bench(const std::string &library, int launches, int kernels, int rounds) {
  KF_TRY(auto device, createWebGpuDevice({.libraryPath = library}));
  const std::shared_ptr<const Program> source = program(launches, kernels);
  auto begin = Clock::now();
  KF_TRY(auto executables, device->load({&source, 1}));
  fmt::print("{}, {}\n{} pipelines loaded in {:.1f} ms\n", device->info().name,
             device->info().driver, kernels, microsecondsSince(begin) / 1e3);
  ProgramBuffers buffers;
  for (int i = 0; i < buffersOfALaunch + 1; ++i) {
    KF_TRY(BufferRef ref, device->allocate(256, MemoryUse::Transfer));
    (i < buffersOfALaunch ? buffers.arguments : buffers.results).push_back(std::move(ref));
  }
  KF_TRY(auto bound, executables.front()->bind(buffers));
  std::vector<double> submits, wholes;
  for (int round = -3; round < rounds; ++round) {
    const int64_t n = 64;
    begin = Clock::now();
    KF_TRY(const Ticket ticket, bound->submit({&n, 1}));
    const double submit = microsecondsSince(begin);
    KF_CHECK(device->wait(ticket));
    if (round < 0)
      continue;
    submits.push_back(submit);
    wholes.push_back(microsecondsSince(begin));
  }
  // As a decoder whose tokens are chosen on the device: one run is under way while another is
  // submitted, and a word of each is read.
  std::vector<double> busySubmits;
  std::array<int32_t, 2> words{};
  std::array<Ticket, 2> tickets{};
  auto readWord = [&](size_t run) {
    return device->download({buffers.results[0].memory, 0, 4},
                            std::as_writable_bytes(std::span(words).subspan(run % 2, 1)));
  };
  for (size_t run = 0; run <= size_t(rounds); ++run) {
    const int64_t n = 64;
    if (run == 1)
      begin = Clock::now();
    const auto before = Clock::now();
    KF_CHECK(bound->submit({&n, 1}));
    busySubmits.push_back(microsecondsSince(before));
    KF_TRY(tickets[run % 2], readWord(run));
    if (run > 0)
      KF_CHECK(device->wait(tickets[(run - 1) % 2]));
  }
  KF_CHECK(device->wait(tickets[size_t(rounds) % 2]));
  const double each = microsecondsSince(begin) / rounds;
  std::ranges::sort(busySubmits);
  std::ranges::sort(submits);
  std::ranges::sort(wholes);
  fmt::print("{} dispatches: encode and submit {:.0f} us (least {:.0f}), with the wait {:.0f} us "
             "(least {:.0f})\n",
             launches, submits[submits.size() / 2], submits.front(), wholes[wholes.size() / 2],
             wholes.front());
  fmt::print(
      "one under way while the next is submitted: encode and submit {:.0f} us (least {:.0f}), "
      "each run {:.0f} us\n",
      busySubmits[busySubmits.size() / 2], busySubmits.front(), each);
  return {};
}

} // namespace

int main(int argc, char **argv) {
  auto number = [&](int index, int otherwise) {
    return argc > index ? std::max(1, std::atoi(argv[index])) : otherwise;
  };
  const std::string library = argc > 1 ? argv[1] : "-";
  const Status done =
      bench(library == "-" ? "" : library, number(2, 150), number(3, 10), number(4, 200));
  if (done)
    return 0;
  fmt::print(stderr, "submit-bench: {}\n", done.error().line());
  return 1;
}
