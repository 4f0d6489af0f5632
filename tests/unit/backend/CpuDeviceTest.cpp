#include "KernelFixture.h"

#include "kernelforge/backend/cpu/CpuDevice.h"
#include "kernelforge/backend/cpu/LoadedCode.h"
#include "kernelforge/backend/reference/Interpreter.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <numeric>
#include <thread>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// out[task] = in[task] + 1 over f32.
const Artifact &addOne() {
  static const Artifact artifact = compileKernel("add_one", R"mlir(
    %p1 = llvm.getelementptr %args[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %in = llvm.load %args : !llvm.ptr -> !llvm.ptr
    %out = llvm.load %p1 : !llvm.ptr -> !llvm.ptr
    %pin = llvm.getelementptr %in[%task] : (!llvm.ptr, i64) -> !llvm.ptr, f32
    %pout = llvm.getelementptr %out[%task] : (!llvm.ptr, i64) -> !llvm.ptr, f32
    %one = arith.constant 1.0 : f32
    %v = llvm.load %pin : !llvm.ptr -> f32
    %r = arith.addf %v, %one : f32
    llvm.store %r, %pout : f32, !llvm.ptr)mlir",
                                                 {{1, 0}}, 1);
  return artifact;
}

/// Phase 0: workspace[task] = in[task]. Phase 1, one task: out[0] = sum of workspace, in order.
const Artifact &sum() {
  static const Artifact artifact = compileKernel("sum", R"mlir(
    %p1 = llvm.getelementptr %args[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %p2 = llvm.getelementptr %args[2] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %in = llvm.load %args : !llvm.ptr -> !llvm.ptr
    %out = llvm.load %p1 : !llvm.ptr -> !llvm.ptr
    %work = llvm.load %p2 : !llvm.ptr -> !llvm.ptr
    %n = llvm.load %sizes : !llvm.ptr -> i64
    %zero = arith.constant 0 : i64
    %one = arith.constant 1 : i64
    %first = arith.cmpi eq, %phase, %zero : i64
    scf.if %first {
      %from = llvm.getelementptr %in[%task] : (!llvm.ptr, i64) -> !llvm.ptr, f32
      %to = llvm.getelementptr %work[%task] : (!llvm.ptr, i64) -> !llvm.ptr, f32
      %v = llvm.load %from : !llvm.ptr -> f32
      llvm.store %v, %to : f32, !llvm.ptr
    } else {
      %none = arith.constant 0.0 : f32
      %s = scf.for %i = %zero to %n step %one iter_args(%a = %none) -> (f32) : i64 {
        %from = llvm.getelementptr %work[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
        %v = llvm.load %from : !llvm.ptr -> f32
        %b = arith.addf %a, %v : f32
        scf.yield %b : f32
      }
      llvm.store %s, %out : f32, !llvm.ptr
    })mlir",
                                                 {{1, 0}, 1}, 1);
  return artifact;
}

constexpr int64_t maxN = 1000;

/// in -> +1 -> ... -> +1 (`steps` times, through two intermediates in turn) -> sum -> out
std::shared_ptr<Program> chain(int steps) {
  auto program = std::make_shared<Program>();
  program->function = "chain";
  program->sizes = {{"n", 0, maxN}};
  Extent bytes{4, 0};
  program->buffers = {{"in", BufferKind::Argument, bytes, 0},
                      {"out", BufferKind::Argument, 4, 0},
                      {"even", BufferKind::Intermediate, bytes, 0},
                      {"odd", BufferKind::Intermediate, bytes, 4032},
                      {"workspace", BufferKind::Intermediate, bytes, 8064}};
  program->arenaBytes = 8064 + 4 * maxN;
  program->arguments = {0};
  program->results = {1};
  program->artifacts = {addOne(), sum()};
  int from = 0;
  for (int i = 0; i < steps; ++i) {
    int to = 2 + i % 2;
    program->launches.push_back({0, {from, to}, {0}, i});
    from = to;
  }
  program->launches.push_back({1, {from, 1, 4}, {0}, -1});
  return program;
}

/// A program on a device of its own, called with the host's memory.
class Loaded {
public:
  static Expected<std::unique_ptr<Loaded>> load(const CpuOptions &options,
                                                std::shared_ptr<const Program> program) {
    auto loaded = std::make_unique<Loaded>();
    KF_TRY(loaded->device, createCpuDevice(options));
    KF_TRY(auto executables, loaded->device->load({&program, 1}));
    loaded->executable = std::move(executables.front());
    KF_TRY(loaded->arena, loaded->device->allocate(program->arenaBytes, MemoryUse::Arena));
    return loaded;
  }

  Expected<std::unique_ptr<BoundProgram>> bind(const Bindings &bindings) {
    const Program &program = executable->program();
    auto import = [&](std::span<void *const> pointers, const std::vector<int> &indices) {
      std::vector<BufferRef> buffers;
      for (size_t i = 0; i < pointers.size(); ++i)
        buffers.push_back(device
                              ->import({static_cast<const std::byte *>(pointers[i]),
                                        size_t(program.buffers[indices[i]].bytes.evaluate(
                                            bindings.sizes.data()))},
                                       MemoryUse::Transfer, nullptr)
                              .value());
      return buffers;
    };
    return executable->bind({import(bindings.arguments, program.arguments),
                             import(bindings.results, program.results), arena});
  }

  Status run(const Bindings &bindings, const InterpreterOptions &options = {}) {
    KF_TRY(auto bound, bind(bindings));
    if (options.launchNanoseconds) {
      KF_TRY(*options.launchNanoseconds, bound->runTimed(bindings.sizes, {options.cancel}));
      return {};
    }
    KF_TRY(const Ticket ticket, bound->submit(bindings.sizes, {options.cancel}));
    return device->wait(ticket);
  }

  std::unique_ptr<Device> device;
  std::unique_ptr<Executable> executable;
  BufferRef arena;
};

std::unique_ptr<Loaded> load(int threads, std::shared_ptr<const Program> program,
                             bool poison = false) {
  auto loaded = Loaded::load({threads, poison}, std::move(program));
  EXPECT_TRUE(loaded) << loaded.error().line();
  return std::move(*loaded);
}

TEST(CpuDevice, RunsAllTasksOfAllPhasesInOrder) {
  std::vector<float> in(maxN);
  std::iota(in.begin(), in.end(), 0.0f);
  for (int threads : {1, 2, 3, 7}) {
    auto executable = load(threads, chain(50), /*poison=*/true);
    for (int64_t n : {int64_t(1), int64_t(2), int64_t(17), maxN})
      for (int repeat = 0; repeat < 5; ++repeat) {
        float out = 0;
        void *arguments[] = {in.data()}, *results[] = {&out};
        Status status = executable->run({{&n, 1}, arguments, results});
        ASSERT_TRUE(status) << status.error().line();
        EXPECT_EQ(out, float(n * (n - 1) / 2 + 50 * n)) << threads << " threads, n of " << n;
      }
  }
}

/// out = in + 2 over f32, by a function of this process; fails where it is told to.
class AddTwo final : public HostKernel {
public:
  Status run(std::span<void *const> args, std::span<const int64_t> sizes, int threads) override {
    ++calls;
    lastThreads = threads;
    if (broken)
      return failed("library failed", "add_two", "it was told to");
    const auto *in = static_cast<const float *>(args[0]);
    auto *out = static_cast<float *>(args[1]);
    for (int64_t i = 0; i < sizes[0]; ++i)
      out[i] = in[i] + 2;
    return {};
  }
  void forget() override {}

  int calls = 0, lastThreads = 0;
  bool broken = false;
};

TEST(CpuDevice, HostFunctionsRunBetweenThePhases) {
  std::vector<float> in(maxN);
  std::iota(in.begin(), in.end(), 0.0f);
  for (int threads : {1, 3}) {
    auto host = std::make_shared<AddTwo>();
    auto program = chain(7);
    Artifact artifact;
    artifact.kernel = artifact.entry = "add_two";
    artifact.sizeNames = {"n"};
    artifact.host = host;
    program->artifacts.push_back(artifact);
    // The first, two in a row in the middle, and the last before the sum.
    for (size_t i : {0, 3, 4, 6})
      program->launches[i].artifact = 2;
    auto executable = load(threads, program, /*poison=*/true);
    std::vector<int64_t> times;
    InterpreterOptions options;
    for (int64_t n : {int64_t(1), int64_t(17), maxN}) {
      options.launchNanoseconds = n == 1 ? nullptr : &times;
      float out = 0;
      void *arguments[] = {in.data()}, *results[] = {&out};
      Status status = executable->run({{&n, 1}, arguments, results}, options);
      ASSERT_TRUE(status) << status.error().line();
      EXPECT_EQ(out, float(n * (n - 1) / 2 + (7 + 4) * n)) << threads << " threads, n of " << n;
    }
    EXPECT_EQ(host->calls, 3 * 4);
    EXPECT_EQ(host->lastThreads, threads);
    ASSERT_EQ(times.size(), 8u);
    for (int64_t time : times)
      EXPECT_GT(time, 0);

    host->broken = true;
    float out = 0;
    void *arguments[] = {in.data()}, *results[] = {&out};
    Status status = executable->run({{&maxN, 1}, arguments, results});
    ASSERT_FALSE(status);
    EXPECT_THAT(status.error().line(), HasSubstr("it was told to"));
    host->broken = false;
    EXPECT_TRUE(executable->run({{&maxN, 1}, arguments, results}));
  }
}

TEST(CpuDevice, WhatIsBoundFollowsMemoryAndSizes) {
  std::vector<float> first(8, 1), second(8, 2);
  float a = 0, b = 0;
  auto loaded = load(2, chain(3));
  const int64_t eight = 8;
  auto bind = [&](std::vector<float> &in, float &out) {
    void *arguments[] = {in.data()}, *results[] = {&out};
    return loaded->bind({{&eight, 1}, arguments, results}).value();
  };
  auto one = bind(first, a), other = bind(second, b);
  auto run = [](BoundProgram &bound, int64_t n) { return bool(bound.submit({&n, 1})); };
  for (int repeat = 0; repeat < 2; ++repeat) {
    EXPECT_TRUE(run(*one, 8));
    EXPECT_EQ(a, 32);
  }
  first[0] = 5; // the same memory, with other values in it
  EXPECT_TRUE(run(*one, 8));
  EXPECT_EQ(a, 36);
  EXPECT_TRUE(run(*other, 8));
  EXPECT_EQ(b, 40);
  EXPECT_FALSE(run(*other, 9)) << "more than is bound";
  EXPECT_FALSE(run(*other, maxN + 1));
  EXPECT_TRUE(run(*other, 3));
  EXPECT_EQ(b, 15);
  EXPECT_EQ(a, 36);
}

TEST(CpuDevice, SmallWorkGivesTheSame) {
  // Whether or not the kernels tell how little they do, the result is the same.
  auto small = chain(2), unknown = chain(2);
  for (Artifact &artifact : small->artifacts)
    artifact.cost.byteTerms = {{8, 0}};
  std::vector<float> in(100, 1);
  for (const auto &program : {small, unknown}) {
    auto executable = load(4, program, /*poison=*/true);
    const int64_t n = 100;
    float out = 0;
    void *arguments[] = {in.data()}, *results[] = {&out};
    std::vector<int64_t> times;
    InterpreterOptions options;
    options.launchNanoseconds = &times;
    ASSERT_TRUE(executable->run({{&n, 1}, arguments, results}, options));
    EXPECT_EQ(out, 300);
    EXPECT_EQ(times.size(), 3u);
  }
}

TEST(CpuDevice, NoTasksAreNoLaunch) {
  auto executable = load(2, chain(3));
  int64_t n = 0;
  float out = -1;
  void *arguments[] = {nullptr}, *results[] = {&out};
  std::vector<int64_t> times;
  ASSERT_TRUE(executable->run({{&n, 1}, arguments, results}, {&times}));
  EXPECT_EQ(out, 0); // the sum's second phase has one task whatever n is
  EXPECT_EQ(times[0], 0);
}

TEST(CpuDevice, BadRunsAreRefused) {
  auto executable = load(1, chain(1));
  int64_t n = maxN + 1;
  std::vector<float> in(n);
  float out = 0;
  void *arguments[] = {in.data()}, *results[] = {&out};
  Status status = executable->run({{&n, 1}, arguments, results});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::Unusable);
  EXPECT_THAT(status.error().line(), HasSubstr("1001"));
}

/// Where its arena is: out[0] = the address of the intermediate, as an integer.
Artifact whereArena() {
  return compileKernel("where_arena", R"mlir(
    %p1 = llvm.getelementptr %args[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %out = llvm.load %args : !llvm.ptr -> !llvm.ptr
    %middle = llvm.load %p1 : !llvm.ptr -> !llvm.ptr
    %address = llvm.ptrtoint %middle : !llvm.ptr to i64
    llvm.store %address, %out : i64, !llvm.ptr)mlir",
                       {{}});
}

TEST(CpuDevice, WhatIsBoundStaysWhereItIs) {
  auto program = [](int64_t arenaBytes) {
    auto program = std::make_shared<Program>();
    program->function = "where";
    program->buffers = {{"out", BufferKind::Argument, 8, 0},
                        {"middle", BufferKind::Intermediate, 4, 0}};
    program->arenaBytes = arenaBytes;
    program->results = {0};
    program->artifacts = {whereArena()};
    program->launches = {{0, {0, 1}, {}, -1}};
    return program;
  };
  auto small = load(1, program(64));
  int64_t address = 0;
  void *results[] = {&address};
  auto bound = small->bind({{}, {}, results}).value();
  ASSERT_TRUE(bound->submit({}));
  EXPECT_EQ(address, int64_t(small->arena.hostAddress()));
  const std::shared_ptr<const Program> larger = program(64 << 20);
  ASSERT_TRUE(small->device->load({&larger, 1}));
  address = 0;
  ASSERT_TRUE(bound->submit({}));
  EXPECT_EQ(address, int64_t(small->arena.hostAddress()));
}

TEST(CpuDevice, BuffersAreChecked) {
  auto loaded = load(1, chain(1));
  Device &device = *loaded->device;
  auto buffer = [&](int64_t bytes) { return device.allocate(bytes, MemoryUse::Transfer).value(); };
  const BufferRef in = buffer(4 * maxN), out = buffer(4), arena = loaded->arena;
  auto line = [&](ProgramBuffers buffers) {
    auto bound = loaded->executable->bind(std::move(buffers));
    return bound ? std::string("fine") : bound.error().line();
  };
  EXPECT_EQ(line({{in}, {out}, arena}), "fine");
  EXPECT_THAT(line({{}, {out}, arena}), HasSubstr("0 arguments"));
  EXPECT_THAT(line({{in}, {out, out}, arena}), HasSubstr("2 results"));
  EXPECT_THAT(line({{in}, {out}, {}}), HasSubstr("arena has 0 bytes"));
  BufferRef beyond = in;
  beyond.offset = 4;
  EXPECT_THAT(line({{beyond}, {out}, arena}), HasSubstr("'in') lies beyond its memory"));
  auto run = [&](ProgramBuffers buffers, int64_t n) {
    auto bound = loaded->executable->bind(std::move(buffers)).value();
    auto ticket = bound->submit({&n, 1});
    return ticket ? std::string("fine") : ticket.error().line();
  };
  EXPECT_EQ(run({{in}, {out}, arena}, maxN), "fine");
  EXPECT_THAT(run({{{}}, {out}, arena}, 1), HasSubstr("'in') is not bound"));
  EXPECT_EQ(run({{{}}, {out}, arena}, 0), "fine");
  EXPECT_THAT(run({{buffer(8)}, {out}, arena}, 3), HasSubstr("8 bytes where 12 are needed"));
  EXPECT_THAT(run({{in}, {buffer(3)}, arena}, 1), HasSubstr("'out') has 3 bytes where 4"));

  std::vector<std::byte> bytes(8, std::byte(7)), back(8);
  const BufferRef eight = buffer(8);
  ASSERT_TRUE(device.upload(bytes, eight));
  ASSERT_TRUE(device.download(eight, back));
  EXPECT_EQ(back, bytes);
  EXPECT_FALSE(device.upload(std::span(bytes).first(7), eight));
  EXPECT_FALSE(device.download({eight.memory, 4, 8}, back));
}

TEST(CpuDevice, TimesWholeRunsInTurns) {
  auto loaded = load(2, chain(3));
  const int64_t n = 100;
  std::vector<float> in(n);
  float out = 0;
  void *arguments[] = {in.data()}, *results[] = {&out};
  auto one = loaded->bind({{&n, 1}, arguments, results}).value();
  auto other = loaded->bind({{&n, 1}, arguments, results}).value();
  BoundProgram *const programs[] = {one.get(), other.get()};
  auto seconds = loaded->device->time(programs, {&n, 1}, 5);
  ASSERT_TRUE(seconds);
  ASSERT_EQ(seconds->size(), 2u);
  for (const auto &rounds : *seconds) {
    ASSERT_EQ(rounds.size(), 5u);
    for (double time : rounds)
      EXPECT_GT(time, 0);
  }
}

TEST(CpuDevice, ManyTasksWaitForTheOneBeforeThem) {
  // One task that takes its time and writes out[0]; then many that read it: out[t + 1] = out[0]
  // + 1.
  Artifact slow = compileKernel("slow", R"mlir(
    %in = llvm.load %args : !llvm.ptr -> !llvm.ptr
    %p1 = llvm.getelementptr %args[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %out = llvm.load %p1 : !llvm.ptr -> !llvm.ptr
    %from = arith.constant 0 : i64
    %to = arith.constant 20000 : i64
    %one = arith.constant 1 : i64
    %first = llvm.load %in : !llvm.ptr -> f32
    %half = arith.constant 0.5 : f32
    %sum = scf.for %i = %from to %to step %one iter_args(%a = %first) -> (f32) : i64 {
      %b = arith.mulf %a, %half : f32
      %c = arith.addf %b, %first : f32
      scf.yield %c : f32
    }
    llvm.store %sum, %out : f32, !llvm.ptr)mlir",
                                {{}});
  Artifact spread = compileKernel("spread", R"mlir(
    %in = llvm.load %args : !llvm.ptr -> !llvm.ptr
    %p1 = llvm.getelementptr %args[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %out = llvm.load %p1 : !llvm.ptr -> !llvm.ptr
    %to = llvm.getelementptr %out[%task] : (!llvm.ptr, i64) -> !llvm.ptr, f32
    %v = llvm.load %in : !llvm.ptr -> f32
    llvm.store %v, %to : f32, !llvm.ptr)mlir",
                                  {8});
  auto program = std::make_shared<Program>();
  program->function = "spreads";
  program->buffers = {{"in", BufferKind::Argument, 4, 0},
                      {"out", BufferKind::Argument, 32, 0},
                      {"middle", BufferKind::Intermediate, 4, 0}};
  program->arenaBytes = 64;
  program->arguments = {0};
  program->results = {1};
  program->artifacts = {slow, spread};
  program->launches = {{0, {0, 2}, {}, -1}, {1, {2, 1}, {}, -1}};
  auto executable = load(4, program, /*poison=*/true);
  for (int repeat = 0; repeat < 50; ++repeat) {
    float in = float(repeat + 1), out[8];
    void *arguments[] = {&in}, *results[] = {out};
    ASSERT_TRUE(executable->run({{}, arguments, results}));
    for (float value : out)
      ASSERT_FLOAT_EQ(value, 2 * in);
  }
}

TEST(CpuDevice, PoisonShowsInWhatNobodyWrote) {
  // The kernel passes on what its scratch holds, and writes only the first half of its result.
  Artifact leak = compileKernel("leak", R"mlir(
    %out = llvm.load %args : !llvm.ptr -> !llvm.ptr
    %p1 = llvm.getelementptr %args[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %middle = llvm.load %p1 : !llvm.ptr -> !llvm.ptr
    %o1 = llvm.getelementptr %out[1] : (!llvm.ptr) -> !llvm.ptr, f32
    %v = llvm.load %scratch : !llvm.ptr -> f32
    %w = llvm.load %middle : !llvm.ptr -> f32
    llvm.store %v, %out : f32, !llvm.ptr
    llvm.store %w, %o1 : f32, !llvm.ptr)mlir",
                                {{}}, 0, 64);
  auto program = std::make_shared<Program>();
  program->function = "leaks";
  program->buffers = {{"out", BufferKind::Argument, 12, 0},
                      {"middle", BufferKind::Intermediate, 4, 0}};
  program->arenaBytes = 64;
  program->results = {0};
  program->artifacts = {leak};
  program->launches = {{0, {0, 1}, {}, -1}};
  for (bool poison : {true, false}) {
    auto executable = load(1, program, poison);
    float out[3] = {7, 7, 7};
    void *results[] = {out};
    ASSERT_TRUE(executable->run({{}, {}, results}));
    EXPECT_EQ(std::isnan(out[0]), poison) << "scratch";
    EXPECT_EQ(std::isnan(out[1]), poison) << "arena";
    EXPECT_EQ(std::isnan(out[2]), poison) << "result";
  }
}

TEST(CpuDevice, WorkersHaveScratchOfTheirOwn) {
  // Each task tells where its scratch is, and waits for the others: so each worker has one.
  constexpr int64_t threads = 4, bytes = 8192 + 8;
  Artifact where = compileKernel("where", R"mlir(
    %counter = llvm.load %args : !llvm.ptr -> !llvm.ptr
    %p1 = llvm.getelementptr %args[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %out = llvm.load %p1 : !llvm.ptr -> !llvm.ptr
    %p = llvm.getelementptr %out[%task] : (!llvm.ptr, i64) -> !llvm.ptr, i64
    %address = llvm.ptrtoint %scratch : !llvm.ptr to i64
    llvm.store %address, %p : i64, !llvm.ptr
    %one = arith.constant 1 : i64
    %all = arith.constant 4 : i64
    %before = llvm.atomicrmw add %counter, %one acq_rel : !llvm.ptr, i64
    scf.while : () -> () {
      %here = llvm.load %counter atomic acquire {alignment = 8 : i64} : !llvm.ptr -> i64
      %some = arith.cmpi slt, %here, %all : i64
      scf.condition(%some)
    } do {
      scf.yield
    })mlir",
                                 {threads}, 0, bytes);
  auto program = std::make_shared<Program>();
  program->function = "where";
  program->buffers = {{"counter", BufferKind::Argument, 8, 0},
                      {"out", BufferKind::Argument, threads * 8, 0}};
  program->arguments = {0};
  program->results = {1};
  program->artifacts = {where};
  program->launches = {{0, {0, 1}, {}, -1}};
  auto executable = load(threads, program, /*poison=*/true);
  EXPECT_GE(executable->executable->scratchBytes(), threads * bytes);
  for (int repeat = 0; repeat < 2; ++repeat) {
    alignas(8) int64_t counter = 0;
    std::vector<int64_t> out(threads);
    void *arguments[] = {&counter}, *results[] = {out.data()};
    ASSERT_TRUE(executable->run({{}, arguments, results}));
    std::sort(out.begin(), out.end());
    for (int64_t i = 0; i < threads; ++i) {
      EXPECT_EQ(out[i] % 64, 0);
      if (i > 0)
        EXPECT_GE(out[i] - out[i - 1], bytes);
    }
  }
}

TEST(CpuDevice, TimesEveryLaunch) {
  for (int threads : {1, 2}) {
    auto executable = load(threads, chain(20));
    int64_t n = maxN;
    std::vector<float> in(n);
    float out = 0;
    void *arguments[] = {in.data()}, *results[] = {&out};
    std::vector<int64_t> times;
    auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(executable->run({{&n, 1}, arguments, results}, {&times}));
    auto total = std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();
    ASSERT_EQ(times.size(), 21u);
    for (int64_t time : times)
      EXPECT_GT(time, 0);
    EXPECT_LE(std::accumulate(times.begin(), times.end(), int64_t(0)), total);
  }
}

TEST(CpuDevice, CanBeStopped) {
  for (int threads : {1, 2}) {
    auto executable = load(threads, chain(2000));
    int64_t n = maxN;
    std::vector<float> in(n);
    float out = 0;
    void *arguments[] = {in.data()}, *results[] = {&out};
    std::atomic<bool> cancel{true};
    Status status = executable->run({{&n, 1}, arguments, results}, {nullptr, &cancel});
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().kind, ErrorKind::Interrupted);

    // Asked for in mid-run: some run is caught, and the next one is whole again.
    bool caught = false;
    for (int attempt = 0; attempt < 100 && !caught; ++attempt) {
      cancel = false;
      std::thread stopper([&] {
        std::this_thread::sleep_for(std::chrono::microseconds(20 * attempt));
        cancel = true;
      });
      caught = !executable->run({{&n, 1}, arguments, results}, {nullptr, &cancel});
      stopper.join();
    }
    EXPECT_TRUE(caught);
    ASSERT_TRUE(executable->run({{&n, 1}, arguments, results}));
    EXPECT_EQ(out, 2000.0f * n);
  }
}

TEST(CpuDevice, BadCodeIsAnErrorAndNotACrash) {
  auto program = chain(1);
  program->artifacts[0].code = "no object";
  auto executable = Loaded::load({1, false}, program);
  ASSERT_FALSE(executable);
  EXPECT_EQ(executable.error().kind, ErrorKind::Failed);

  program = chain(1);
  program->artifacts[0].entry = "not_there";
  executable = Loaded::load({1, false}, program);
  ASSERT_FALSE(executable);
  EXPECT_THAT(executable.error().line(), HasSubstr("not_there"));

  for (int threads : {-1, maxThreads + 1})
    EXPECT_FALSE(createCpuDevice({threads, false}));
}

TEST(CpuDevice, KernelsMayCopyAndFill) {
  Artifact copy = compileKernel("copy", R"mlir(
    %p1 = llvm.getelementptr %args[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %in = llvm.load %args : !llvm.ptr -> !llvm.ptr
    %out = llvm.load %p1 : !llvm.ptr -> !llvm.ptr
    %n = llvm.load %sizes : !llvm.ptr -> i64
    "llvm.intr.memcpy"(%out, %in, %n) <{isVolatile = false}> : (!llvm.ptr, !llvm.ptr, i64) -> ()
    %end = llvm.getelementptr %out[%n] : (!llvm.ptr, i64) -> !llvm.ptr, i8
    %byte = arith.constant 42 : i8
    "llvm.intr.memset"(%end, %byte, %n) <{isVolatile = false}> : (!llvm.ptr, i8, i64) -> ()
    )mlir",
                                {{}}, 1);
  auto program = std::make_shared<Program>();
  program->function = "copies";
  program->sizes = {{"n", 1, 100}};
  program->buffers = {{"in", BufferKind::Argument, {1, 0}, 0},
                      {"out", BufferKind::Argument, {2, 0}, 0}};
  program->arguments = {0};
  program->results = {1};
  program->artifacts = {copy};
  program->launches = {{0, {0, 1}, {0}, -1}};
  auto executable = load(1, program);
  int64_t n = 5;
  char in[] = "hello", out[11] = {};
  void *arguments[] = {in}, *results[] = {out};
  ASSERT_TRUE(executable->run({{&n, 1}, arguments, results}));
  EXPECT_STREQ(out, "hello*****");
}

} // namespace
