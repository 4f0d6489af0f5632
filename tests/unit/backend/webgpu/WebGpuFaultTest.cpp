// What is refused, stopped or lost; and time.
#include "DeviceFixture.h"

#include <gmock/gmock.h>
#include <numeric>

using namespace kernelforge;
using testing::AllOf;
using testing::ElementsAre;
using testing::Gt;
using testing::HasSubstr;
using testing::Not;

namespace {

using WebGpuFault = DeviceTest;

/// affine() of one argument, `launches` times over, with this text.
std::shared_ptr<const Program> repeated(int launches, std::string text = affineText,
                                        Phase phase = affinePhase()) {
  ProgramMaker maker("repeated");
  const int n = maker.size("n", 2, 1000);
  const int in = maker.argument("in", Extent(4, n)), out = maker.result("out", Extent(4, n));
  const int kernel = maker.kernel("my_kernel", std::move(text), {std::move(phase)}, {"n"});
  for (int i = 0; i < launches; ++i)
    maker.launch(kernel, {in, out}, {n});
  return maker.done();
}

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
  EXPECT_THAT(errorOfText(edited(affineText, "* 2.0", "* two")),
              AllOf(HasSubstr("my_kernel"), HasSubstr("two"), HasSubstr("wgsl:11:"),
                    Not(HasSubstr("\\n"))));
  EXPECT_THAT(errorOfText(edited(affineText, "fn affine", "fn other")),
              AllOf(HasSubstr("my_kernel"), HasSubstr("affine")));
  EXPECT_THAT(errorOfText(edited(affineText, "workgroup_size(64)", "workgroup_size(64, 64, 64)")),
              HasSubstr("my_kernel"));
  EXPECT_THAT(errorOfText(""), HasSubstr("affine"));
  EXPECT_THAT(errorOfText("\xff\xfe"), HasSubstr("my_kernel"));
  // The device goes on.
  EXPECT_TRUE(load(repeated(1)));
}

TEST_F(WebGpuFault, RefusesWhatTheDeviceLacks) {
  auto errorOfPhase = [&](auto edit) {
    Phase phase = affinePhase();
    edit(phase);
    const auto program = repeated(1, affineText, phase);
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
              HasSubstr("is number 2 of 2"));
  EXPECT_THAT(errorOfPhase([](Phase &phase) { phase.parameters.back().index = -1; }),
              HasSubstr("is number -1 of 1"));
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

TEST_F(WebGpuFault, RefusesSizes) {
  const auto executable = load(repeated(1));
  ASSERT_TRUE(executable);
  const auto bound = bind(*executable, {{memory(400)}, {memory(4000)}, {}});
  ASSERT_TRUE(bound);
  auto errorOfRun = [&](std::vector<int64_t> sizes) { return errorOf(bound->submit(sizes)); };
  EXPECT_THAT(errorOfRun({}), HasSubstr("0 sizes"));
  EXPECT_THAT(errorOfRun({1}), HasSubstr("'n' is 1, out of the range 2 to 1000"));
  EXPECT_THAT(errorOfRun({1001}), HasSubstr("out of the range"));
  EXPECT_THAT(errorOfRun({101}), HasSubstr("'in' has 400 bytes where 404"));
  run(*bound, {100});
}

TEST_F(WebGpuFault, RefusesGridsBeyondTheDevice) {
  ProgramMaker maker("huge");
  const int out = maker.result("out", 4);
  Phase phase = affinePhase("number");
  phase.parameters = parameters(1, 0);
  phase.grid = Extent(int64_t(1) << 40);
  phase.block = {1, 1, 1};
  const int kernel = maker.kernel("number", R"(
@group(0) @binding(0) var<storage, read_write> result: array<u32>;
@compute @workgroup_size(1) fn number() { result[0] = 1u; }
)",
                                  {phase});
  maker.launch(kernel, {out});
  const auto executable = load(maker.done());
  ASSERT_TRUE(executable);
  const auto bound = bind(*executable, {{}, {memory(4)}, {}});
  ASSERT_TRUE(bound);
  EXPECT_THAT(errorOf(bound->submit({})), HasSubstr("more than the device can launch"));
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
  const auto executable = load(repeated(1, edited(affineText, "read_write", "read")));
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

TEST_F(WebGpuFault, StopsWhenTold) {
  const auto executable = load(repeated(100));
  ASSERT_TRUE(executable);
  const BufferRef out = poisoned(4000);
  const auto bound = bind(*executable, {{memory(4000)}, {out}, {}});
  ASSERT_TRUE(bound);
  const std::atomic<bool> stop = true;
  const int64_t n = 1000;
  EXPECT_EQ(kindOf(bound->submit({&n, 1}, {.cancel = &stop})), ErrorKind::Interrupted);
  EXPECT_EQ(kindOf(bound->runTimed({&n, 1}, {.cancel = &stop})), ErrorKind::Interrupted);
  EXPECT_EQ(bytesOf(out), std::vector<std::byte>(4000, std::byte(0xff)));
  run(*bound, {n});
  EXPECT_EQ(valuesOf<float>(out), std::vector<float>(1000, 1));
}

TEST_F(WebGpuFault, TellsTime) {
  const auto executable = load(repeated(3));
  ASSERT_TRUE(executable);
  const BufferRef out = poisoned(4000);
  const auto bound = bind(*executable, {{memory(4000)}, {out}, {}});
  const auto other = bind(*executable, {{memory(4000)}, {memory(4000)}, {}});
  ASSERT_TRUE(bound && other);
  const int64_t n = 1000;
  const auto launches = bound->runTimed({&n, 1});
  ASSERT_TRUE(launches) << launches.error().line();
  EXPECT_THAT(*launches, ElementsAre(Gt(0), Gt(0), Gt(0)));
  EXPECT_EQ(valuesOf<float>(out), std::vector<float>(1000, 1));
  BoundProgram *const both[] = {bound.get(), other.get()};
  const auto runs = device->time(both, {&n, 1}, 2);
  ASSERT_TRUE(runs) << runs.error().line();
  EXPECT_THAT(*runs, ElementsAre(ElementsAre(Gt(0), Gt(0)), ElementsAre(Gt(0), Gt(0))));
  for (const std::vector<double> &seconds : *runs)
    for (double one : seconds)
      EXPECT_LT(one, 10);
}

TEST_F(WebGpuFault, SaysThatItIsLost) {
  // Each call is the first that meets the loss.
  enum Call {
    Wait,
    WaitMore,
    Submit,
    Timed,
    Time,
    Allocate,
    Import,
    Upload,
    UploadOdd,
    Download,
    Load,
    Bind,
    Calls
  };
  for (int call = 0; call < Calls; ++call) {
    SCOPED_TRACE(call);
    auto made = createWebGpuDevice(options());
    ASSERT_TRUE(made) << made.error().line();
    device = std::move(*made);
    const auto program = repeated(1);
    const auto executable = load(program);
    ASSERT_TRUE(executable);
    const BufferRef in = memory(4000), out = memory(4000);
    const auto bound = bind(*executable, {{in}, {out}, {}});
    ASSERT_TRUE(bound);
    const int64_t n = 1000;
    std::vector<std::byte> bytes(4000), piece(3);
    const auto under = bound->submit({&n, 1});
    const auto read = device->download(out, bytes);
    ASSERT_TRUE(under && read);
    BoundProgram *const one[] = {bound.get()};
    ASSERT_TRUE(loseWebGpuDevice(*device));
    auto kind = [&] {
      switch (call) {
      case Wait:
        return kindOf(device->wait(*under));
      case WaitMore:
        return kindOf(device->wait(*read));
      case Submit:
        return kindOf(bound->submit({&n, 1}));
      case Timed:
        return kindOf(bound->runTimed({&n, 1}));
      case Time:
        return kindOf(device->time(one, {&n, 1}, 1));
      case Allocate:
        return kindOf(device->allocate(16, MemoryUse::Arena));
      case Import:
        return kindOf(device->import(bytes, MemoryUse::Weights, nullptr));
      case Upload:
        return kindOf(device->upload(bytes, out));
      case UploadOdd:
        return kindOf(device->upload(piece, {out.memory, 1, 3}));
      case Download:
        return kindOf(device->download(out, bytes));
      case Load:
        return kindOf(device->load({&program, 1}));
      default:
        return kindOf(executable->bind({{in}, {out}, {}}));
      }
    };
    EXPECT_EQ(kind(), ErrorKind::Lost);
    // From then on all fail.
    EXPECT_THAT(errorOf(device->upload(bytes, out)), HasSubstr("is lost"));
    EXPECT_EQ(kindOf(device->wait(0)), ErrorKind::Lost);
    EXPECT_EQ(kindOf(bound->submit({&n, 1})), ErrorKind::Lost);
    // Another one can be made while what was of this one is still there.
    auto another = createWebGpuDevice(options());
    ASSERT_TRUE(another) << another.error().line();
    EXPECT_TRUE((*another)->load({&program, 1}));
  }
}

} // namespace
