// What is refused.
#include "WebGpuFixture.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

namespace {

using WebGpuFault = DeviceTest;

std::string edited(std::string text, std::string_view from, std::string_view to) {
  return text.replace(text.find(from), from.size(), to);
}

TEST_F(WebGpuFault, ShowsWhatShaderCompilerSays) {
  auto errorOfText = [&](std::string text) {
    // Beside one that is right, so that the one that is wrong must be found.
    const std::vector<std::shared_ptr<const Program>> programs = {repeated(1),
                                                                  repeated(1, std::move(text))};
    return errorOf(device->load(programs));
  };
  EXPECT_THAT(
      errorOfText(edited(testTarget().affine, "* 2.0", "* two")),
      AllOf(HasSubstr("my_kernel"), HasSubstr("two"), HasSubstr(":11:"), Not(HasSubstr("\\n"))));
  EXPECT_THAT(errorOfText(edited(testTarget().affine, "fn affine", "fn other")),
              AllOf(HasSubstr("my_kernel"), HasSubstr("affine")));
  EXPECT_THAT(
      errorOfText(edited(testTarget().affine, "workgroup_size(64)", "workgroup_size(64, 64, 64)")),
      HasSubstr("my_kernel"));
  EXPECT_THAT(errorOfText(" "), HasSubstr("affine"));
  EXPECT_THAT(errorOfText("\xff\xfe"), HasSubstr("my_kernel"));
  // The device goes on.
  EXPECT_TRUE(load(repeated(1)));
}

TEST_F(WebGpuFault, RefusesWhatTheDeviceLacks) {
  auto errorOfPhase = [&](auto edit) {
    Phase phase = affinePhase();
    edit(phase);
    const auto program = repeated(1, testTarget().affine, phase);
    return errorOf(device->load({&program, 1}));
  };
  EXPECT_THAT(errorOfPhase([](Phase &phase) { phase.coResident = true; }),
              AllOf(HasSubstr("my_kernel"), HasSubstr("at once")));
  EXPECT_THAT(errorOfPhase([](Phase &phase) { phase.cluster = 2; }), HasSubstr("clusters"));
  EXPECT_THAT(errorOfPhase([](Phase &phase) { phase.sharedBytes = 1 << 30; }),
              HasSubstr("workgroup memory"));
  EXPECT_THAT(errorOfPhase([](Phase &phase) { phase.block = {1024, 1024, 1}; }),
              HasSubstr("threads"));
  EXPECT_THAT(errorOfPhase([](Phase &phase) { phase.parameters[0].index = 2; }),
              HasSubstr("takes buffer 2 of 2"));
  EXPECT_THAT(errorOfPhase([](Phase &phase) { phase.parameters.back().index = -1; }),
              HasSubstr("takes size -1 of 1"));
}

TEST_F(WebGpuFault, RefusesBuffers) {
  const auto program = repeated(1);
  const auto executable = load(program);
  ASSERT_TRUE(executable);
  const BufferRef good = memory(8192);
  auto errorOfBind = [&](BufferRef in) {
    return errorOf(executable->bind({{std::move(in)}, {good}, {}}));
  };
  EXPECT_THAT(errorOfBind({}), AllOf(HasSubstr("'in'"), HasSubstr("no memory")));
  EXPECT_THAT(errorOfBind({good.memory, 0, 4}), HasSubstr("4 bytes where 8 are needed"));
  EXPECT_THAT(errorOfBind({good.memory, 4, 400}), HasSubstr("byte 4"));
  EXPECT_THAT(errorOfBind({good.memory, 8192, 400}), HasSubstr("8192 bytes"));
  EXPECT_THAT(errorOf(executable->bind({{good, good}, {good}, {}})), HasSubstr("2 arguments"));
  // Some devices have no buffer that is larger than what can be bound.
  const auto large =
      device->allocate(device->info().limits.bindingBytes + 1024, MemoryUse::Weights);
  if (large)
    EXPECT_THAT(errorOfBind(*large), HasSubstr("of one buffer are the most"));
  else
    EXPECT_EQ(large.error().kind, ErrorKind::Unusable);
}

TEST_F(WebGpuFault, BindsWhatAShaderLeavesOut) {
  // Neither the source nor the uniform is declared.
  const auto executable = load(repeated(1, R"(
@group(0) @binding(1) var<storage, read_write> result: array<f32>;
@compute @workgroup_size(64) fn affine(@builtin(local_invocation_index) lane: u32) {
  result[lane] = 7.0;
}
)"));
  ASSERT_TRUE(executable);
  const BufferRef out = poisoned(4000);
  const auto bound = bind(*executable, {{memory(4000)}, {out}, {}});
  ASSERT_TRUE(bound);
  run(*bound, {2});
  EXPECT_EQ(valuesOf<float>(out)[63], 7);
}

TEST_F(WebGpuFault, RefusesABufferBothWays) {
  // A buffer that is only read and one that is written are pieces of the same memory.
  const auto executable = load(repeated(1, edited(testTarget().affine, "read_write", "read")));
  ASSERT_TRUE(executable);
  const BufferRef both = memory(8192);
  const auto bound = bind(*executable, {{{both.memory, 0, 4000}}, {{both.memory, 4096, 4000}}, {}});
  ASSERT_TRUE(bound);
  const int64_t n = 10;
  EXPECT_EQ(kindOf(bound->submit({&n, 1})), ErrorKind::Failed);
  const BufferRef in = holding(std::vector<float>(10, 3));
  const auto apart = bind(*executable, {{in}, {both}, {}});
  ASSERT_TRUE(apart);
  run(*apart, {n});
  EXPECT_EQ(valuesOf<float>(both)[9], 7);
}

} // namespace
