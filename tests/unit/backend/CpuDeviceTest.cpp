#include "CpuDeviceFixture.h"

#include "kernelforge/kernels/MatmulRegistry.h"

#include <cstring>
#include <functional>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

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

/// A variant of matmul for one column of one: out = weight * in + bias. It fails where it is told
/// to, and counts what it is asked for.
class LineMatmul final : public MatmulKernel {
public:
  static inline int prepared = 0, runs = 0, lastThreads = 0;
  static inline bool broken = false;

  std::string_view name() const override { return "test:line"; }
  MatmulSupport supports(const MatmulProblem &problem) const override {
    return problem.n == 1 && problem.k == 1 ? MatmulSupport::ok()
                                            : MatmulSupport::unsupported("it is for lines only");
  }

private:
  struct Prepared final : PreparedMatmul {
    int64_t rows = 0;
    float weight = 0; ///< read once, as a library does that packs it
    const float *bias = nullptr;

    Status run(const float *input, float *output) override {
      ++runs;
      if (broken)
        return failed("library failed", "test:line", "it was told to");
      for (int64_t i = 0; i < rows; ++i)
        output[i] = weight * input[i] + *bias;
      return {};
    }
  };

  Expected<std::unique_ptr<PreparedMatmul>> make(const MatmulProblem &problem,
                                                 const MatmulOperands &operands, const KnobValues &,
                                                 int threads) const override {
    ++prepared;
    lastThreads = threads;
    auto made = std::make_unique<Prepared>();
    made->rows = problem.m;
    std::memcpy(&made->weight, operands.weight, sizeof(float));
    made->bias = operands.bias;
    return made;
  }
};
const RegisterMatmul<LineMatmul> addedLine;

/// A chain of steps of which those at `which` are calls of a library; it takes a weight and a bias,
/// too.
std::shared_ptr<Program> chainWithCalls(int steps, std::initializer_list<size_t> which) {
  auto program = chain(steps);
  const int weight = static_cast<int>(program->buffers.size()), bias = weight + 1;
  program->buffers.push_back({"weight", BufferKind::Weight, 4, 0});
  program->buffers.push_back({"bias", BufferKind::Weight, 4, 0});
  program->arguments = {0, weight, bias};
  Artifact artifact;
  artifact.kernel = artifact.entry = "line";
  artifact.variant = "test:line";
  artifact.sizeNames = {"n"};
  artifact.library =
      LibraryCall{.problem = {.m = maxN, .n = 1, .k = 1, .epilogue = {EpilogueStep::Bias}},
                  .rowsSize = 0,
                  .input = 1,
                  .weight = 2,
                  .bias = 3,
                  .sizes = 1,
                  .arguments = 4};
  program->artifacts.push_back(artifact);
  for (size_t i : which) {
    Launch &launch = program->launches[i];
    launch.artifact = 2;
    launch.buffers = {launch.buffers[0], weight, bias, launch.buffers[1]};
  }
  return program;
}

/// A variant whose library is on no machine.
class NoMatmul final : public MatmulKernel {
public:
  std::string_view name() const override { return "test:nothing"; }
  MatmulSupport supports(const MatmulProblem &) const override {
    return MatmulSupport::unavailable("it was never installed");
  }

private:
  Expected<std::unique_ptr<PreparedMatmul>> make(const MatmulProblem &, const MatmulOperands &,
                                                 const KnobValues &, int) const override {
    return failed("library failed", "test:nothing", "there is none");
  }
};
const RegisterMatmul<NoMatmul> addedNothing;

TEST(CpuDevice, LibraryCallsRunBetweenThePhases) {
  std::vector<float> in(maxN);
  std::iota(in.begin(), in.end(), 0.0f);
  float weight = 1, bias = 2;
  for (int threads : {1, 3}) {
    // The first, two in a row in the middle, and the last before the sum.
    auto executable = load(threads, chainWithCalls(7, {0, 3, 4, 6}), /*poison=*/true);
    std::vector<int64_t> times;
    InterpreterOptions options;
    LineMatmul::runs = 0;
    for (int64_t n : {int64_t(0), int64_t(1), int64_t(17), maxN}) {
      options.launchNanoseconds = n == 1 ? nullptr : &times;
      float out = 0;
      void *arguments[] = {in.data(), &weight, &bias}, *results[] = {&out};
      Status status = executable->run({{&n, 1}, arguments, results}, options);
      ASSERT_TRUE(status) << status.error().line();
      EXPECT_EQ(out, float(n * (n - 1) / 2 + (7 + 4) * n)) << threads << " threads, n of " << n;
    }
    EXPECT_EQ(LineMatmul::runs, 3 * 4) << "without rows there is nothing to call";
    EXPECT_EQ(LineMatmul::lastThreads, threads);
    ASSERT_EQ(times.size(), 8u);
    for (int64_t time : times)
      EXPECT_GT(time, 0);

    LineMatmul::broken = true;
    float out = 0;
    void *arguments[] = {in.data(), &weight, &bias}, *results[] = {&out};
    Status status = executable->run({{&maxN, 1}, arguments, results});
    LineMatmul::broken = false;
    ASSERT_FALSE(status);
    EXPECT_THAT(status.error().line(), HasSubstr("it was told to"));
    EXPECT_TRUE(executable->run({{&maxN, 1}, arguments, results}));
  }
}

TEST(CpuDevice, WhatALibraryMadeOfAWeightIsKeptAsLongAsTheWeight) {
  auto executable = load(2, chainWithCalls(3, {0, 1}));
  std::vector<float> in(4, 1);
  float weight = 1, bias = 2, out = 0;
  const int64_t n = 4;
  void *arguments[] = {in.data(), &weight, &bias}, *results[] = {&out};
  LineMatmul::prepared = 0;
  auto bound = executable->bind({{&n, 1}, arguments, results}).value();
  for (int i = 0; i < 3; ++i)
    ASSERT_TRUE(bound->submit({&n, 1}));
  EXPECT_EQ(out, 4 * (1 + 2 + 2 + 1));
  EXPECT_EQ(LineMatmul::prepared, 1) << "both launches have the same weight";
  // Other memory at the same place, with another weight.
  bound.reset();
  weight = 3;
  ASSERT_TRUE(executable->run({{&n, 1}, arguments, results}));
  EXPECT_EQ(out, 4 * (3 * (3 + 2) + 2 + 1));
}

TEST(CpuDevice, ProgramsThatAreLoadedTogetherShareWhatALibraryMade) {
  auto device = createCpuDevice({2, false}).value();
  const std::vector<std::shared_ptr<const Program>> programs = {chainWithCalls(3, {0}),
                                                                chainWithCalls(5, {1, 2})};
  auto executables = device->load(programs).value();
  std::vector<float> in(4, 1), weight(1, 1), bias(1, 2);
  std::vector<BufferRef> arguments;
  for (std::vector<float> *values : {&in, &weight, &bias})
    arguments.push_back(
        device->import(std::as_bytes(std::span(*values)), MemoryUse::Transfer, nullptr).value());
  const BufferRef arena = device->allocate(programs[1]->arenaBytes, MemoryUse::Arena).value();
  LineMatmul::prepared = 0;
  for (const auto &[executable, sum] : {std::pair(executables[0].get(), 4 * (1 + 3 + 1)),
                                        std::pair(executables[1].get(), 4 * (1 + 5 + 2))}) {
    const BufferRef out = device->allocate(4, MemoryUse::Transfer).value();
    auto bound = executable->bind({arguments, {out}, arena}).value();
    const int64_t n = 4;
    ASSERT_TRUE(bound->submit({&n, 1}));
    float result = 0;
    std::memcpy(&result, out.hostAddress(), sizeof(result));
    EXPECT_EQ(result, float(sum));
  }
  EXPECT_EQ(LineMatmul::prepared, 1);
}

TEST(CpuDevice, ALibraryThatIsNotHereIsNamedWhereItIsLoaded) {
  auto says = [](const std::function<void(Artifact &)> &change) {
    auto program = chainWithCalls(1, {0});
    change(program->artifacts[2]);
    return Loaded::load({2, false}, program).error();
  };
  const Error unknown = says([](Artifact &artifact) { artifact.variant = "vendor:abacus"; });
  EXPECT_EQ(unknown.kind, ErrorKind::Unusable);
  EXPECT_THAT(unknown.line(), AllOf(HasSubstr("'line'"), HasSubstr("vendor:abacus")));
  const Error missing = says([](Artifact &artifact) { artifact.variant = "test:nothing"; });
  EXPECT_EQ(missing.kind, ErrorKind::Missing);
  EXPECT_THAT(missing.line(), AllOf(HasSubstr("'line'"), HasSubstr("was never installed")));
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

/// Where its arena is: out[0] = the address of the intermediate, as an integer.

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
