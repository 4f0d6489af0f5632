// Programs: launches in order, sizes, grids, arenas, copies.
#include "DeviceFixture.h"

#include <cmath>
#include <gmock/gmock.h>
#include <numeric>
#include <thread>

using namespace kernelforge;

namespace {

using DeviceProgram = DeviceTest;

std::vector<float> counted(int64_t count, float first = 0) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), first);
  return values;
}

/// `times` times x * 2 + 1.
std::vector<float> affine(std::vector<float> values, int times) {
  for (int i = 0; i < times; ++i)
    for (float &value : values)
      value = value * 2 + 1;
  return values;
}

/// out = affine^launches(in), through the arena.
std::shared_ptr<const Program> chain(int launches, int64_t most = 1000) {
  ProgramMaker maker("chain");
  const int n = maker.size("n", 0, most);
  int from = maker.argument("in", Extent(4, n));
  const int out = maker.result("out", Extent(4, n));
  const int kernel = maker.kernel("affine", testTarget().affine, {affinePhase()}, {"n"});
  const int even = maker.intermediate("even", Extent(4, n), 4 * most);
  const int odd = maker.intermediate("odd", Extent(4, n), 4 * most);
  for (int i = 0; i < launches; ++i) {
    const int to = i + 1 == launches ? out : i % 2 ? odd : even;
    maker.launch(kernel, {from, to}, {n});
    from = to;
  }
  return maker.done();
}

TEST_F(DeviceProgram, RunsOneLaunch) {
  const auto program = chain(1);
  const auto executable = load(program);
  ASSERT_TRUE(executable);
  const BufferRef in = holding(counted(777)), out = poisoned(4 * 777);
  const auto bound = bind(*executable, {{in}, {out}, poisoned(program->arenaBytes)});
  ASSERT_TRUE(bound);
  run(*bound, {777});
  EXPECT_EQ(valuesOf<float>(out), affine(counted(777), 1));
}

TEST_F(DeviceProgram, RunsLaunchesInOrder) {
  // More than one submit takes.
  const auto program = chain(101);
  const auto executable = load(program);
  ASSERT_TRUE(executable);
  // Values that stay exact: x -> 2x + 1 keeps -1.
  std::vector<float> start(333, -1);
  const BufferRef in = holding(start), out = poisoned(4 * 333);
  const auto bound = bind(*executable, {{in}, {out}, poisoned(program->arenaBytes)});
  ASSERT_TRUE(bound);
  run(*bound, {333});
  EXPECT_EQ(valuesOf<float>(out), start);
  const auto brief = chain(5);
  const auto other = load(brief);
  ASSERT_TRUE(other);
  const BufferRef numbers = holding(counted(333)), last = poisoned(4 * 333);
  const auto second = bind(*other, {{numbers}, {last}, poisoned(brief->arenaBytes)});
  ASSERT_TRUE(second);
  run(*second, {333});
  EXPECT_EQ(valuesOf<float>(last), affine(counted(333), 5));
}

TEST_F(DeviceProgram, FollowsSizesBetweenRuns) {
  const auto program = chain(3);
  const auto executable = load(program);
  ASSERT_TRUE(executable);
  const BufferRef in = holding(counted(1000)), out = memory(4000);
  const auto bound = bind(*executable, {{in}, {out}, poisoned(program->arenaBytes)});
  ASSERT_TRUE(bound);
  // Not waited for in between: each run has its own sizes.
  std::vector<std::vector<float>> results;
  const std::vector<int64_t> sizes = {1000, 1, 0, 63, 64, 65, 64, 999};
  results.reserve(sizes.size());
  Ticket last = 0;
  for (int64_t size : sizes) {
    put(out, std::vector<std::byte>(4000, std::byte(0xff)));
    const auto ran = bound->submit({&size, 1});
    ASSERT_TRUE(ran) << ran.error().line();
    results.emplace_back(1000);
    const auto read = device->download(out, std::as_writable_bytes(std::span(results.back())));
    ASSERT_TRUE(read);
    EXPECT_GT(*read, last);
    last = *read;
  }
  expectGood(device->wait(last));
  for (size_t i = 0; i < sizes.size(); ++i) {
    const std::vector<float> expected = affine(counted(sizes[i]), 3);
    for (int64_t j = 0; j < 1000; ++j)
      if (j < sizes[i])
        ASSERT_EQ(results[i][j], expected[j]) << sizes[i] << ", " << j;
      else
        ASSERT_TRUE(std::isnan(results[i][j])) << sizes[i] << ", " << j;
  }
}

TEST_F(DeviceProgram, RunsLargeGrids) {
  constexpr int64_t tasks = 200003;
  ProgramMaker maker("fold");
  const int n = maker.size("n", 1, tasks);
  const int out = maker.result("out", Extent(4, n));
  Phase phase;
  phase.entry = "number";
  phase.parameters = parameters(1, 0);
  phase.grid = Extent(1, 0);
  const int kernel = maker.kernel("number", testTarget().number, {phase}, {"n"});
  maker.launch(kernel, {out}, {n});
  const auto executable = load(maker.done());
  ASSERT_TRUE(executable);
  const BufferRef numbers = memory(4 * tasks);
  const auto bound = bind(*executable, {{}, {numbers}, {}});
  ASSERT_TRUE(bound);
  // Each task is run exactly once a run.
  for (int64_t size : {tasks, int64_t(65535), int64_t(65536)})
    run(*bound, {size});
  const std::vector<uint32_t> values = valuesOf<uint32_t>(numbers);
  for (uint32_t i = 0; i < tasks; ++i)
    ASSERT_EQ(values[i], i * 3 * (1 + (i < 65535) + (i < 65536))) << i;
}

TEST_F(DeviceProgram, SharesAnArena) {
  const auto first = chain(4), second = chain(6);
  const std::vector<std::shared_ptr<const Program>> both = {first, second};
  auto loaded = device->load(both);
  ASSERT_TRUE(loaded) << loaded.error().line();
  // The arena is a piece of a larger memory, and so are inputs and results.
  const BufferRef large = poisoned(64 << 10);
  const BufferRef arena = {large.memory, 512, first->arenaBytes};
  const BufferRef in = {large.memory, 16384, 4000}, one = {large.memory, 32768, 4000},
                  two = {large.memory, 40960, 4000};
  const std::vector<float> numbers = counted(1000);
  put(in, std::as_bytes(std::span(numbers)));
  const auto a = bind(*(*loaded)[0], {{in}, {one}, arena});
  const auto b = bind(*(*loaded)[1], {{in}, {two}, arena});
  ASSERT_TRUE(a && b);
  const int64_t n = 1000;
  for (int i = 0; i < 3; ++i)
    ASSERT_TRUE(a->submit({&n, 1}) && b->submit({&n, 1}));
  EXPECT_EQ(valuesOf<float>(one), affine(counted(1000), 4));
  EXPECT_EQ(valuesOf<float>(two), affine(counted(1000), 6));
  EXPECT_EQ(bytesOf({large.memory, 0, 512}), std::vector<std::byte>(512, std::byte(0xff)));
}

TEST_F(DeviceProgram, RefusesArenas) {
  const auto program = chain(4);
  const auto executable = load(program);
  ASSERT_TRUE(executable);
  const BufferRef in = memory(4000), out = memory(4000), large = memory(64 << 10);
  auto kindOfArena = [&](int64_t offset, int64_t bytes) {
    return kindOf(executable->bind({{in}, {out}, {large.memory, offset, bytes}}));
  };
  EXPECT_EQ(kindOfArena(0, program->arenaBytes), ErrorKind::No);
  EXPECT_EQ(kindOfArena(0, program->arenaBytes - 1), ErrorKind::Unusable);
  EXPECT_EQ(kindOfArena(4, program->arenaBytes), ErrorKind::Unusable);
  EXPECT_EQ(kindOfArena((64 << 10) - 256, program->arenaBytes), ErrorKind::Unusable);
  EXPECT_EQ(kindOfArena(-256, program->arenaBytes), ErrorKind::Unusable);
}

TEST_F(DeviceProgram, CopiesResults) {
  for (int64_t bytes : {1, 2, 3, 4, 5, 255, 1022, 1023, 1024}) {
    ProgramMaker maker("copies");
    const int n = maker.size("n", 0, 2000);
    const int in = maker.argument("in", Extent(1, n));
    const int one = maker.result("one", Extent(1, n)), two = maker.result("two", Extent(1, n));
    maker.program.copies = {{in, one, Extent(1, n)}, {one, two, Extent(1, n)}};
    const auto executable = load(maker.done());
    ASSERT_TRUE(executable);
    std::vector<std::byte> numbers(2000);
    for (int i = 0; i < 2000; ++i)
      numbers[i] = std::byte(i * 7 + 1);
    // The second copy is within one memory, the first between two.
    const BufferRef source = holding(numbers), target = poisoned(8192);
    const auto bound =
        bind(*executable, {{source}, {{target.memory, 0, 2000}, {target.memory, 4096, 2000}}, {}});
    ASSERT_TRUE(bound);
    run(*bound, {bytes});
    std::vector<std::byte> expected(8192, std::byte(0xff));
    std::copy_n(numbers.begin(), bytes, expected.begin());
    std::copy_n(numbers.begin(), bytes, expected.begin() + 4096);
    EXPECT_EQ(bytesOf(target), expected) << bytes;
  }
}

TEST_F(DeviceProgram, KeepsWorkspaces) {
  ProgramMaker maker("sum");
  const int n = maker.size("n", 0, 1000);
  const int in = maker.argument("in", Extent(4, n), BufferKind::Weight);
  const int out = maker.result("out", 8);
  const int partial = maker.intermediate("partial", Extent(4, n, 16), 4 * 63);
  using Kind = Parameter::Kind;
  Phase rows, all;
  rows.entry = "sum_rows";
  rows.parameters = {{Kind::Buffer, 0, Access::Read},
                     {Kind::Workspace, 0, Access::Write},
                     {Kind::Size, 0, Access::Read}};
  rows.grid = Extent(1, 0, 16);
  all.entry = "sum_all";
  all.parameters = {{Kind::Workspace, 0, Access::Read},
                    {Kind::Workspace, 1, Access::ReadWrite},
                    {Kind::Buffer, 1, Access::Write},
                    {Kind::Size, 0, Access::Read}};
  Workspace arena, kept;
  arena.bytes = Extent(4, 0, 16);
  kept.bytes = 4;
  kept.contents = Workspace::Contents::ZeroedOnce;
  const int kernel = maker.kernel("sum", testTarget().sum, {rows, all}, {"n"}, {arena, kept});
  maker.launch(kernel, {in, out, partial, -1}, {n});
  const auto executable = load(maker.done());
  ASSERT_TRUE(executable);
  const BufferRef result = poisoned(8);
  for (int binding = 0; binding < 2; ++binding) {
    const auto bound = bind(*executable, {{holding(counted(1000))}, {result}, poisoned(256)});
    ASSERT_TRUE(bound);
    for (int64_t size : {1000, 17, 0}) {
      run(*bound, {size});
      EXPECT_EQ(valuesOf<float>(result)[0], float(size * (size - 1) / 2));
    }
    EXPECT_EQ(valuesOf<float>(result)[1], 3);
  }
}

TEST_F(DeviceProgram, RunsFromSeveralThreads) {
  const auto program = chain(40);
  const auto executable = load(program);
  ASSERT_TRUE(executable);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      // A bound program and an arena of its own.
      const std::vector<float> start(1000, -1);
      const BufferRef in = holding(start), out = poisoned(4000);
      const auto bound = bind(*executable, {{in}, {out}, poisoned(program->arenaBytes)});
      ASSERT_TRUE(bound);
      for (int64_t i = 0; i < 10; ++i) {
        const int64_t n = 1000 - i * (t + 1);
        put(out, std::vector<std::byte>(4000, std::byte(0xff)));
        run(*bound, {n});
        const std::vector<float> values = valuesOf<float>(out);
        for (int64_t j = 0; j < 1000; ++j)
          ASSERT_TRUE(j < n ? values[j] == -1 : std::isnan(values[j])) << j;
      }
    });
  for (std::thread &thread : threads)
    thread.join();
}

} // namespace
