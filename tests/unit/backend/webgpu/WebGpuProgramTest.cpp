// Programs: launches in order, sizes, grids, arenas, copies.
#include "DeviceFixture.h"

#include <gmock/gmock.h>
#include <numeric>
#include <thread>

using namespace kernelforge;
using testing::AllOf;
using testing::HasSubstr;

namespace {

using WebGpuProgram = DeviceTest;

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
  const int kernel = maker.kernel("affine", affineText, {affinePhase()}, {"n"});
  const int even = maker.intermediate("even", Extent(4, n), 4 * most);
  const int odd = maker.intermediate("odd", Extent(4, n), 4 * most);
  for (int i = 0; i < launches; ++i) {
    const int to = i + 1 == launches ? out : i % 2 ? odd : even;
    maker.launch(kernel, {from, to}, {n});
    from = to;
  }
  return maker.done();
}

TEST_F(WebGpuProgram, RunsOneLaunch) {
  const auto program = chain(1);
  const auto executable = load(program);
  ASSERT_TRUE(executable);
  const BufferRef in = holding(counted(777)), out = poisoned(4 * 777);
  const auto bound = bind(*executable, {{in}, {out}, poisoned(program->arenaBytes)});
  ASSERT_TRUE(bound);
  run(*bound, {777});
  EXPECT_EQ(valuesOf<float>(out), affine(counted(777), 1));
}

} // namespace
