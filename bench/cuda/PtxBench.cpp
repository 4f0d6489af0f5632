// Launches matmuls whose PTX was made elsewhere through the CUDA device: bound once, with tensor
// maps where they take them, many launches a run over sets of buffers that do not fit in the cache,
// the run replayed as a graph and timed by the GPU's clock. It shows what the device adds to the
// time of a kernel, which should be nothing.
//
//   ptx-bench MANIFEST [ROUNDS]
//
// A line of the manifest is one kernel, whose entry is `k`: C = A B^T of bf16, sums in f32.
//   gemm NAME PTX M N K BM BN SHARED_BYTES THREADS TILES ROWS_OF_B
//     takes tensor maps of A, B and C (boxes of BM x 64, ROWS_OF_B x 64 and 64 x 64, swizzled by
//     128 bytes) and the address of C; blocks take tiles in turns
//   gemv NAME PTX N K THREADS BLOCKS EARLY
//     takes B, a, c; EARLY: it reads B before it waits for what ran before it
#include "Bf16.h"

#include "kernelforge/backend/cuda/CudaDevice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

using namespace kernelforge;
using namespace kernelforge::bench;

namespace {

using Kind = Parameter::Kind;

struct Kernel {
  bool isGemm = false;
  std::string name, code;
  int64_t m = 1, n = 0, k = 0;
  int64_t rowsOfA = 0, columns = 0, rowsOfB = 0; ///< of a tile
  int64_t sharedBytes = 0, threads = 0, blocks = 0;
  bool startsEarly = false;

  double flops() const { return 2.0 * double(m) * double(n) * double(k); }
  double bytes() const { return 2.0 * double(m * k + n * k + m * n); }
};

/// Of a matrix by its number.
uint64_t seedOf(int64_t number) { return uint64_t(number) * 0x9e3779b97f4a7c15 + 1; }

Expected<Kernel> readLine(const std::string &line, const std::string &folder) {
  std::istringstream in(line);
  Kernel kernel;
  std::string kind, path;
  in >> kind >> kernel.name >> path;
  kernel.isGemm = kind == "gemm";
  if (kernel.isGemm)
    in >> kernel.m >> kernel.n >> kernel.k >> kernel.rowsOfA >> kernel.columns >>
        kernel.sharedBytes >> kernel.threads >> kernel.blocks >> kernel.rowsOfB;
  else
    in >> kernel.n >> kernel.k >> kernel.threads >> kernel.blocks >> kernel.startsEarly;
  if (!in || (!kernel.isGemm && kind != "gemv"))
    return unusable("manifest is not usable", line, "it is no kernel", "see the program's text");
  std::ifstream file(folder + path);
  kernel.code.assign(std::istreambuf_iterator<char>(file), {});
  if (kernel.code.empty())
    return unusable("PTX cannot be read", folder + path, "it is not there, or empty");
  return kernel;
}

Parameter mapOf(int buffer, Access access, int64_t rows, int64_t columns, int64_t boxRows) {
  return {Kind::Map, buffer, access,
          TensorMap{.element = TensorMap::Element::BF16,
                    .shape = {columns, rows},
                    .strides = {columns * 2},
                    .box = {64, boxRows},
                    .swizzle = TensorMap::Swizzle::Bytes128}};
}

/// `launches` launches over `sets` sets of buffers: B of each, then A of each, are arguments, C of
/// each results.
Program programOf(const Kernel &kernel, int64_t workers, int sets, int launches) {
  Phase phase;
  phase.entry = "k";
  phase.block = {kernel.threads, 1, 1};
  phase.sharedBytes = kernel.sharedBytes;
  phase.startsEarly = kernel.startsEarly;
  if (kernel.isGemm) {
    phase.grid = std::min(kernel.blocks, workers);
    phase.parameters = {mapOf(0, Access::Read, kernel.m, kernel.k, kernel.rowsOfA),
                        mapOf(1, Access::Read, kernel.n, kernel.k, kernel.rowsOfB),
                        mapOf(2, Access::Write, kernel.m, kernel.n, 64),
                        {Kind::Buffer, 2, Access::Write}};
  } else {
    phase.grid = kernel.blocks;
    phase.parameters = {{Kind::Buffer, 1, Access::Read},
                        {Kind::Buffer, 0, Access::Read},
                        {Kind::Buffer, 2, Access::Write}};
  }
  Artifact artifact;
  artifact.kernel = kernel.name;
  artifact.entry = "k";
  artifact.code = kernel.code;
  artifact.launching.phases = {phase};
  Program program;
  program.function = kernel.name;
  program.artifacts = {artifact};
  for (int i = 0; i < sets; ++i) {
    program.buffers.push_back({"a", BufferKind::Argument, 2 * kernel.m * kernel.k, 0});
    program.buffers.push_back({"b", BufferKind::Weight, 2 * kernel.n * kernel.k, 0});
    program.buffers.push_back({"c", BufferKind::Argument, 2 * kernel.m * kernel.n, 0});
    program.arguments.insert(program.arguments.end(), {3 * i, 3 * i + 1});
    program.results.push_back(3 * i + 2);
  }
  for (int i = 0; i < launches; ++i)
    program.launches.push_back({0, {3 * (i % sets), 3 * (i % sets) + 1, 3 * (i % sets) + 2}, {}});
  return program;
}

/// ||C - A B^T|| / ||A B^T|| over rows and columns drawn at random, in double precision; infinity
/// where any element of C at all is no number.
double errorOf(const Kernel &kernel, const std::vector<uint16_t> &a, const std::vector<uint16_t> &b,
               const std::vector<uint16_t> &c) {
  for (uint16_t value : c)
    if (!std::isfinite(fromBf16(value)))
      return INFINITY;
  std::mt19937_64 random(7);
  double difference = 0, norm = 0;
  for (int sample = 0; sample < 4096; ++sample) {
    const auto row = int64_t(random() % uint64_t(kernel.m)),
               column = int64_t(random() % uint64_t(kernel.n));
    double sum = 0;
    for (int64_t i = 0; i < kernel.k; ++i)
      sum += double(fromBf16(a[row * kernel.k + i])) * double(fromBf16(b[column * kernel.k + i]));
    const double got = fromBf16(c[row * kernel.n + column]);
    difference += (got - sum) * (got - sum);
    norm += sum * sum;
  }
  return std::sqrt(difference / norm);
}

Status measure(Device &device, const Kernel &kernel, int rounds) {
  constexpr double beyondCache = 300e6, perRun = 12e-3;
  const int sets = std::clamp(int(std::ceil(beyondCache / kernel.bytes())), 2, 32);
  const double about = std::max(kernel.flops() / 700e12, kernel.bytes() / 4e12);
  int launches = std::clamp(int(perRun / about), 4, 400);
  launches = (launches + sets - 1) / sets * sets;
  const auto program = std::make_shared<const Program>(
      programOf(kernel, device.info().limits.workers, sets, launches));
  KF_TRY(auto loaded, device.load(std::span(&program, 1)));
  ProgramBuffers buffers;
  std::vector<uint16_t> a, b;
  for (int i = 0; i < sets; ++i) {
    auto ofA = randomBf16(kernel.m * kernel.k, seedOf(2 * i + 1)),
         ofB = randomBf16(kernel.n * kernel.k, seedOf(2 * i + 2));
    KF_TRY(BufferRef refA,
           device.import(std::as_bytes(std::span(ofA)), MemoryUse::Transfer, nullptr));
    KF_TRY(BufferRef refB,
           device.import(std::as_bytes(std::span(ofB)), MemoryUse::Weights, nullptr));
    KF_TRY(BufferRef refC, device.allocate(2 * kernel.m * kernel.n, MemoryUse::Transfer));
    const std::vector<std::byte> poison(refC.bytes, std::byte(0xff));
    KF_TRY(const Ticket ticket, device.upload(poison, refC));
    KF_CHECK(device.wait(ticket));
    buffers.arguments.insert(buffers.arguments.end(), {refA, refB});
    buffers.results.push_back(refC);
    if (i == 0) {
      a = std::move(ofA);
      b = std::move(ofB);
    }
  }
  const BufferRef first = buffers.results.front();
  KF_TRY(auto bound, loaded.front()->bind(std::move(buffers)));
  BoundProgram *const programs[] = {bound.get()};
  KF_TRY(auto seconds, device.time(programs, {}, rounds + 2));
  std::vector<uint16_t> c(kernel.m * kernel.n);
  KF_TRY(const Ticket ticket, device.download(first, std::as_writable_bytes(std::span(c))));
  KF_CHECK(device.wait(ticket));
  std::vector<double> &all = seconds.front();
  all.erase(all.begin(), all.begin() + 2);
  std::ranges::sort(all);
  const double median = all[all.size() / 2] / launches;
  const double error = errorOf(kernel, a, b, c);
  fmt::print("{:<24} med {:8.2f} us  min {:8.2f}  {:7.1f} TF  {:6.0f} GB/s  relerr {:.2e}{}\n",
             kernel.name, median * 1e6, all.front() / launches * 1e6,
             kernel.flops() / median * 1e-12, kernel.bytes() / median * 1e-9, error,
             error < 5e-3 ? "" : "  WRONG");
  std::fflush(stdout);
  if (!(error < 5e-3))
    return makeError(ErrorKind::No, "result is wrong", kernel.name, fmt::format("error {}", error));
  return {};
}

Status run(const std::string &manifest, int rounds) {
  KF_TRY(std::unique_ptr<Device> device, createCudaDevice());
  fmt::print("{}, {}\n", device->info().name, device->info().driver);
  std::ifstream file(manifest);
  if (!file)
    return unusable("manifest cannot be read", manifest, "it is not there");
  const std::string folder = manifest.substr(0, manifest.find_last_of('/') + 1);
  for (std::string line; std::getline(file, line);) {
    KF_TRY(const Kernel kernel, readLine(line, folder));
    KF_CHECK(measure(*device, kernel, rounds));
  }
  return {};
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 2) {
    fmt::print(stderr, "ptx-bench: usage: ptx-bench MANIFEST [ROUNDS]\n");
    return int(ErrorKind::Unusable);
  }
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 30;
  if (rounds < 1) {
    fmt::print(stderr, "ptx-bench: ROUNDS is no positive number\n");
    return int(ErrorKind::Unusable);
  }
  if (const Status status = run(argv[1], rounds); !status) {
    fmt::print(stderr, "ptx-bench: {}\n", status.error().line());
    return int(status.error().kind);
  }
  return 0;
}
