// What any device refuses, stops or loses; and time.
#include "DeviceFixture.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::ElementsAre;
using testing::Gt;
using testing::HasSubstr;

namespace {

using DeviceFault = DeviceTest;

TEST_F(DeviceFault, RefusesSizes) {
  const auto executable = load(repeated(1));
  ASSERT_TRUE(executable);
  const auto bound = bind(*executable, {{memory(400)}, {memory(4000)}, {}});
  ASSERT_TRUE(bound);
  auto errorOfRun = [&](std::vector<int64_t> sizes) { return errorOf(bound->submit(sizes)); };
  EXPECT_THAT(errorOfRun({}), HasSubstr("0 sizes"));
  EXPECT_THAT(errorOfRun({1}), HasSubstr("'n' is 1, out of the range 2 to 1000"));
  EXPECT_THAT(errorOfRun({1001}), HasSubstr("out of the range"));
  EXPECT_THAT(errorOfRun({101}), HasSubstr("has 400 bytes where 404"));
  run(*bound, {100});
}

TEST_F(DeviceFault, RefusesGridsBeyondTheDevice) {
  ProgramMaker maker("huge");
  const int out = maker.result("out", 4);
  Phase phase = affinePhase("number");
  phase.parameters = parameters(1, 0);
  phase.grid = Extent(int64_t(1) << 40);
  phase.block = {1, 1, 1};
  const int kernel = maker.kernel("number", testTarget().number, {phase});
  maker.launch(kernel, {out});
  const auto executable = load(maker.done());
  ASSERT_TRUE(executable);
  const auto bound = bind(*executable, {{}, {memory(4)}, {}});
  ASSERT_TRUE(bound);
  EXPECT_THAT(errorOf(bound->submit({})), HasSubstr("can launch"));
}

TEST_F(DeviceFault, StopsWhenTold) {
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

TEST_F(DeviceFault, TellsTime) {
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

TEST_F(DeviceFault, TimesWhatReadsWhatItWritesByOneRun) {
  ProgramMaker maker("count");
  const int out = maker.result("out", 16);
  Phase phase = affinePhase("number");
  phase.parameters = parameters(1, 0);
  phase.parameters[0].access = Access::ReadWrite;
  phase.grid = Extent(4);
  phase.block = {1, 1, 1};
  const int kernel = maker.kernel("number", testTarget().number, {phase});
  maker.launch(kernel, {out});
  const auto executable = load(maker.done());
  ASSERT_TRUE(executable);
  const BufferRef sums = memory(16);
  const auto bound = bind(*executable, {{}, {sums}, {}});
  ASSERT_TRUE(bound);
  ASSERT_TRUE(bound->runTimed({}));
  EXPECT_EQ(valuesOf<uint32_t>(sums), (std::vector<uint32_t>{0, 3, 6, 9}));
}

TEST_F(DeviceFault, SaysThatItIsLost) {
  if (!testTarget().lose)
    GTEST_SKIP() << "a process that has lost this device gets no other one";
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
    auto made = testTarget().create();
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
    testTarget().lose(*device);
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
    EXPECT_THAT(errorOf(device->upload(bytes, out)), HasSubstr("lost"));
    EXPECT_EQ(kindOf(device->wait(0)), ErrorKind::Lost);
    EXPECT_EQ(kindOf(bound->submit({&n, 1})), ErrorKind::Lost);
    // Another one can be made while what was of this one is still there.
    auto another = testTarget().create();
    ASSERT_TRUE(another) << another.error().line();
    EXPECT_TRUE((*another)->load({&program, 1}));
  }
}

} // namespace
