// What only the CUDA device does: graphs, launch attributes, tensor maps, compiled modules. Where a
// test reads the log of the made-up driver, a real one skips it.
#include "CudaFixture.h"

#include "kernelforge/backend/cuda/Queue.h"

#include <chrono>
#include <cstring>
#include <filesystem>
#include <gmock/gmock.h>
#include <iostream>
#include <memory>

using namespace kernelforge;
using namespace kernelforge::cuda;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

namespace {

class CudaDevice : public DeviceTest {
protected:
  bool hasLog() { return driverLog() != "no log"; }
  static int count(const std::string &text, std::string_view what) {
    int found = 0;
    for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1))
      ++found;
    return found;
  }
};

TEST_F(CudaDevice, InfoDescribesGpu) {
  const DeviceInfo &info = device->info();
  EXPECT_EQ(info.kind, "cuda");
  EXPECT_FALSE(info.name.empty());
  EXPECT_THAT(info.chip, HasSubstr("sm_"));
  EXPECT_THAT(info.driver, HasSubstr("CUDA "));
  EXPECT_GE(info.limits.threadsPerBlock, 1024);
  EXPECT_GE(info.limits.sharedBytes, 48 << 10);
  EXPECT_EQ(info.limits.subgroupMax, 32);
  EXPECT_EQ(info.limits.bufferAlignment, 256);
  EXPECT_GT(info.limits.memoryBytes, 0);
  EXPECT_FALSE(info.software);
  RecordProperty("gpu", info.name + ", " + info.driver);
}

TEST_F(CudaDevice, ReplaysWhatItRunsAgain) {
  const auto executable = load(repeated(5));
  ASSERT_TRUE(executable);
  const BufferRef in = holding(std::vector<float>(1000, 3)), out = memory(4000);
  const auto bound = bind(*executable, {{in}, {out}, {}});
  ASSERT_TRUE(bound);
  const bool isLogged = hasLog();
  driverLog();
  run(*bound, {1000});
  const std::string first = driverLog();
  run(*bound, {1000});
  const std::string second = driverLog();
  // Other contents, which the graph knows nothing of.
  const std::vector<float> fours(1000, 4);
  put(in, std::as_bytes(std::span(fours)));
  put(out, std::vector<std::byte>(4000, std::byte(0xff)));
  run(*bound, {1000});
  const std::string third = driverLog();
  EXPECT_EQ(valuesOf<float>(out), std::vector<float>(1000, 9));
  // Other sizes, and the first ones again.
  put(out, std::vector<std::byte>(4000, std::byte(0xff)));
  run(*bound, {2});
  EXPECT_EQ(valuesOf<float>(out)[1], 9);
  EXPECT_FALSE(valuesOf<float>(out)[2] == 9);
  driverLog();
  run(*bound, {1000});
  EXPECT_EQ(valuesOf<float>(out), std::vector<float>(1000, 9));
  const std::string last = driverLog();
  if (!isLogged)
    GTEST_SKIP() << "this driver has no log";
  EXPECT_EQ(count(first, "launch affine"), 5);
  EXPECT_THAT(first, Not(HasSubstr("replay")));
  EXPECT_THAT(second, AllOf(HasSubstr("record 5"), HasSubstr("replay")));
  EXPECT_THAT(third,
              AllOf(HasSubstr("replay"), Not(HasSubstr("launch")), Not(HasSubstr("record"))));
  EXPECT_THAT(last, AllOf(HasSubstr("replay"), Not(HasSubstr("launch"))));
}

TEST_F(CudaDevice, ForgetsTheOldestRecording) {
  const auto executable = load(repeated(1));
  ASSERT_TRUE(executable);
  const BufferRef in = holding(std::vector<float>(1000, 3)), out = memory(4000);
  const auto bound = bind(*executable, {{in}, {out}, {}});
  ASSERT_TRUE(bound);
  for (int round = 0; round < 3; ++round)
    for (int64_t n = 2; n < 80; ++n) {
      put(out, std::vector<std::byte>(4000, std::byte(0xff)));
      run(*bound, {n});
      const std::vector<float> values = valuesOf<float>(out);
      ASSERT_EQ(values[n - 1], 7);
      ASSERT_FALSE(values[n] == 7);
    }
}

TEST_F(CudaDevice, HoldsLittleMemoryForCopies) {
  // Nobody waits in between, and each copy has other bytes.
  constexpr int64_t bytes = 3 << 20;
  const BufferRef target = memory(bytes);
  auto *pinned = reinterpret_cast<size_t (*)()>(driverFunction("fakeDriverPinned"));
  const size_t before = pinned ? pinned() : 0;
  std::vector<std::byte> last(bytes);
  for (int i = 0; i < 60; ++i)
    put(target, std::vector<std::byte>(bytes, std::byte(i)));
  const Expected<Ticket> ticket = device->download(target, last);
  put(target, std::vector<std::byte>(bytes, std::byte(99)));
  ASSERT_TRUE(ticket) << ticket.error().line();
  expectGood(device->wait(*ticket));
  EXPECT_EQ(last, std::vector<std::byte>(bytes, std::byte(59)));
  EXPECT_EQ(bytesOf(target), std::vector<std::byte>(bytes, std::byte(99)));
  if (pinned)
    EXPECT_LE(pinned() - before, size_t(80) << 20);
}

TEST_F(CudaDevice, BringsLargeDataInPieces) {
  // More pieces than there is staging for, and no multiple of one.
  const int64_t bytes = (int64_t(70) << 20) + 13;
  std::vector<std::byte> data(bytes);
  for (size_t i = 0; i < data.size(); i += 61)
    data[i] = std::byte((i >> 20) * 31 + i % 251);
  const std::vector<std::byte> expected = data;
  auto *pinned = reinterpret_cast<size_t (*)()>(driverFunction("fakeDriverPinned"));
  const size_t before = pinned ? pinned() : 0;
  const BufferRef whole = memory(bytes + 16), target = {whole.memory, 8, bytes};
  put(target, data);
  std::ranges::fill(data, std::byte(0xee)); // it has them
  put({whole.memory, 8, 1}, std::vector<std::byte>(1, std::byte(7)));
  std::vector<std::byte> held = bytesOf(target);
  EXPECT_EQ(held[0], std::byte(7));
  held[0] = expected[0];
  EXPECT_EQ(std::memcmp(held.data(), expected.data(), held.size()), 0);
  if (pinned)
    EXPECT_LE(pinned() - before, size_t(80) << 20);
}

TEST_F(CudaDevice, BringsLargeDataNoSlowerThanTheDriver) {
  if (hasLog())
    GTEST_SKIP() << "this driver's time is made up";
  using Clock = std::chrono::steady_clock;
  auto seconds = [](auto &&work) {
    const auto start = Clock::now();
    work();
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  // Memory that neither has seen.
  const size_t bytes = size_t(256) << 20;
  const BufferRef target = memory(int64_t(bytes));
  auto *copy = reinterpret_cast<CUresult (*)(CUdeviceptr, const void *, size_t)>(
      driverFunction("cuMemcpyHtoD_v2"));
  auto *address = dynamic_cast<GpuMemory *>(target.memory.get());
  ASSERT_TRUE(copy && address);
  double ours = 1e9, driver = 1e9;
  for (int round = 0; round < 3; ++round) {
    const std::unique_ptr<std::byte[]> a(new std::byte[bytes]), b(new std::byte[bytes]);
    std::memset(a.get(), 1, bytes);
    std::memset(b.get(), 2, bytes);
    ours = std::min(ours, seconds([&] {
                      const Expected<Ticket> ticket = device->upload({a.get(), bytes}, target);
                      ASSERT_TRUE(ticket) << ticket.error().line();
                      expectGood(device->wait(*ticket));
                    }));
    const Context::Current now(*address->owner());
    driver =
        std::min(driver, seconds([&] { EXPECT_EQ(copy(address->address(), b.get(), bytes), 0); }));
  }
  const double gigabytes = double(bytes) * 1e-9;
  std::cout << "256 MiB to the GPU: " << gigabytes / ours << " GB/s, by the driver "
            << gigabytes / driver << " GB/s\n";
  EXPECT_LT(ours, 1.1 * driver);
}

TEST_F(CudaDevice, SaysHowItLaunches) {
  if (!hasLog())
    GTEST_SKIP() << "this driver has no log";
  std::string code = testTarget().affine;
  code.insert(code.find("  .reg"), "  .shared .align 16 .b8 own[256];\n");
  auto logOf = [&](auto edit) {
    Phase phase = affinePhase();
    edit(phase);
    const auto executable = load(repeated(1, code, phase));
    const auto bound = bind(*executable, {{memory(4000)}, {memory(4000)}, {}});
    run(*bound, {200});
    return driverLog();
  };
  EXPECT_THAT(logOf([](Phase &) {}), HasSubstr("launch affine 4 of 64 threads, 0 bytes\n"));
  // What the code declares by itself is not given to it again.
  EXPECT_THAT(logOf([](Phase &phase) { phase.sharedBytes = 200; }),
              HasSubstr("threads, 0 bytes\n"));
  EXPECT_THAT(logOf([](Phase &phase) { phase.sharedBytes = 1256; }),
              AllOf(HasSubstr("dynamic 1000\n"), HasSubstr("threads, 1000 bytes\n")));
  EXPECT_THAT(logOf([](Phase &phase) { phase.coResident = true; }), HasSubstr("bytes 2:1\n"));
  EXPECT_THAT(logOf([](Phase &phase) { phase.startsEarly = true; }), HasSubstr("bytes 6:1\n"));
  EXPECT_THAT(logOf([](Phase &phase) {
                phase.cluster = 3;
                phase.startsEarly = true;
              }),
              HasSubstr("launch affine 6 of 64 threads, 0 bytes 4:3 6:1\n"));
}

TEST_F(CudaDevice, SaysWhatKernelsTake) {
  const auto executable = load(repeated(1));
  ASSERT_TRUE(executable);
  ASSERT_EQ(executable->resources().size(), 1U);
  const KernelResources resources = executable->resources().front();
  EXPECT_GT(resources.registers, 0);
  EXPECT_GE(resources.spillBytes, 0);
  EXPECT_GE(resources.sharedBytes, 0);
}

TEST_F(CudaDevice, ShowsWhatTheCompilerSays) {
  std::string wrong = testTarget().affine;
  wrong.replace(wrong.find("add.u32"), 7, "nonsense");
  // Beside one that is right, so that the one that is wrong must be found.
  const std::vector<std::shared_ptr<const Program>> programs = {repeated(1), repeated(1, wrong)};
  const auto loaded = device->load(programs);
  EXPECT_EQ(kindOf(loaded), ErrorKind::Failed);
  EXPECT_THAT(errorOf(loaded),
              AllOf(HasSubstr("my_kernel"), HasSubstr("line"), Not(HasSubstr("\\n"))));
  std::string other = testTarget().affine;
  other.replace(other.find("affine"), 6, "defiant");
  const auto program = repeated(1, other);
  EXPECT_THAT(errorOf(device->load({&program, 1})), HasSubstr("affine"));
  EXPECT_TRUE(load(repeated(1)));
}

TEST_F(CudaDevice, RefusesCodeThatTheCompilerLeftSlow) {
  if (!hasLog())
    GTEST_SKIP() << "this driver compiles nothing slow on demand";
  const auto program = repeated(1, testTarget().affine + "// slow\n");
  EXPECT_THAT(errorOf(device->load({&program, 1})),
              AllOf(HasSubstr("my_kernel"), HasSubstr("C7510"), Not(HasSubstr("gmem"))));
  EXPECT_TRUE(load(repeated(1)));
}

TEST_F(CudaDevice, RefusesWhatNoGpuCanLaunch) {
  auto errorOfPhase = [&](auto edit) {
    Phase phase = affinePhase();
    edit(phase);
    const auto program = repeated(1, {}, phase);
    return errorOf(device->load({&program, 1}));
  };
  EXPECT_THAT(errorOfPhase([](Phase &phase) { phase.sharedBytes = 1 << 30; }),
              AllOf(HasSubstr("my_kernel"), HasSubstr("shared memory")));
  EXPECT_THAT(errorOfPhase([](Phase &phase) { phase.block = {1024, 2, 1}; }), HasSubstr("threads"));
  EXPECT_THAT(errorOfPhase([](Phase &phase) { phase.block = {0, 1, 1}; }), HasSubstr("threads"));
  EXPECT_THAT(errorOfPhase([](Phase &phase) { phase.cluster = 9; }), HasSubstr("clusters"));
}

TEST_F(CudaDevice, SaysWhatMemoryIsFree) {
  // Others may give memory back meanwhile, as programs of tests beside this one do: then once more.
  bool isLess = false;
  for (int i = 0; i < 20 && !isLess; ++i) {
    const Expected<int64_t> before = device->freeBytes();
    ASSERT_TRUE(before) << before.error().line();
    EXPECT_GT(*before, 0);
    EXPECT_LE(*before, device->info().limits.memoryBytes);
    const BufferRef held = memory(32 << 20);
    const Expected<int64_t> after = device->freeBytes();
    ASSERT_TRUE(after) << after.error().line();
    isLess = *after <= *before - (32 << 20);
  }
  EXPECT_TRUE(isLess);
}

TEST_F(CudaDevice, RunsOutOfMemory) {
  // Less than there is, but more than is left at some point.
  std::vector<BufferRef> held;
  const int64_t each = device->info().limits.memoryBytes / 4;
  Expected<BufferRef> last = BufferRef{};
  while (held.size() < 8) {
    last = device->allocate(each, MemoryUse::Cache);
    if (!last)
      break;
    held.push_back(*last);
  }
  EXPECT_EQ(kindOf(last), ErrorKind::Failed);
  EXPECT_THAT(errorOf(last), HasSubstr("CUDA_ERROR_OUT_OF_MEMORY"));
  held.clear();
  EXPECT_TRUE(device->allocate(each, MemoryUse::Cache));
}

/// A program of one kernel that takes a map of its argument and writes to its result.
std::shared_ptr<const Program> mapped(TensorMap map) {
  ProgramMaker maker("mapped");
  const int n = maker.size("n", 1, 64);
  const int in = maker.argument("in", Extent(256, n)), out = maker.result("out", 128);
  Phase phase;
  phase.entry = "mapped";
  phase.parameters = {{Parameter::Kind::Map, 0, Access::Read, std::move(map)},
                      {Parameter::Kind::Buffer, 1, Access::Write}};
  const int kernel = maker.kernel("mapped", ptx(R"(
.visible .entry mapped(
  .param .align 128 .b8 map[128],
  .param .u64 result
)
{
  .reg .b64 %d<2>;
  ld.param.u64 %d0, [map];
  ld.param.u64 %d1, [result];
  st.global.u64 [%d1], %d0;
  ret;
}
)"),
                                  {phase}, {"n"});
  maker.launch(kernel, {in, out}, {n});
  return maker.done();
}

TensorMap rowsOf128() {
  return {.element = TensorMap::Element::BF16,
          .shape = {128, Extent(1, 0)},
          .strides = {256},
          .box = {64, 8},
          .swizzle = TensorMap::Swizzle::Bytes128};
}

TEST_F(CudaDevice, MakesTensorMaps) {
  const auto executable = load(mapped(rowsOf128()));
  ASSERT_TRUE(executable);
  const BufferRef in = memory(1 << 16), out = poisoned(128);
  driverLog();
  const auto bound = bind(*executable, {{{in.memory, 512, 256 * 64}}, {out}, {}});
  ASSERT_TRUE(bound);
  if (driverLog() == "no log")
    GTEST_SKIP() << "this driver says nothing of its maps";
  driverLog();
  const auto again = bind(*executable, {{{in.memory, 512, 256 * 64}}, {out}, {}});
  EXPECT_EQ(driverLog(), "map 9 swizzle 3 promotion 3 128/64/1 64/8/1 256\n");
  // Rows that a smaller buffer has not are none of the map's.
  const auto fewer = bind(*executable, {{{in.memory, 512, 256 * 48}}, {out}, {}});
  EXPECT_EQ(driverLog(), "map 9 swizzle 3 promotion 3 128/64/1 48/8/1 256\n");
  // Nor does a map reach beyond the end of a buffer that it goes to.
  TensorMap toEnd = rowsOf128();
  toEnd.shape[1] = int64_t(1) << 31;
  toEnd.toEnd = true;
  const auto cache = load(mapped(toEnd));
  ASSERT_TRUE(cache);
  const auto whole = bind(*cache, {{{in.memory, 512, 256 * 48 + 255}}, {out}, {}});
  EXPECT_EQ(driverLog(), "map 9 swizzle 3 promotion 3 128/64/1 48/8/1 256\n");
  run(*bound, {3});
  const uint64_t address = valuesOf<uint64_t>(out)[0];
  const auto other = bind(*executable, {{{in.memory, 768, 256 * 64}}, {out}, {}});
  ASSERT_TRUE(other);
  run(*other, {3});
  EXPECT_EQ(valuesOf<uint64_t>(out)[0], address + 256);
}

TEST_F(CudaDevice, RefusesTensorMaps) {
  const BufferRef in = memory(1 << 16), out = memory(128);
  auto errorOfMap = [&](auto edit) {
    TensorMap map = rowsOf128();
    edit(map);
    const auto program = mapped(map);
    auto loaded = device->load({&program, 1});
    return loaded ? errorOf(loaded->front()->bind({{{in.memory, 0, 256 * 64}}, {out}, {}}))
                  : errorOf(loaded);
  };
  EXPECT_EQ(errorOfMap([](TensorMap &) {}), "no error");
  EXPECT_THAT(errorOfMap([](TensorMap &map) { map.strides = {}; }), HasSubstr("dimensions"));
  EXPECT_THAT(errorOfMap([](TensorMap &map) { map.shape[1] = 128; }),
              AllOf(HasSubstr("'in'"), HasSubstr("covers 32768 bytes of 16384")));
  EXPECT_THAT(errorOfMap([](TensorMap &map) { map.shape[1] = 0; }), HasSubstr("0 elements"));
  EXPECT_THAT(errorOfMap([](TensorMap &map) { map.shape[1] = INT64_MAX; }), HasSubstr("elements"));
  EXPECT_THAT(errorOfMap([](TensorMap &map) { map.strides[0] = 250; }),
              HasSubstr("multiples of 16"));
  EXPECT_THAT(errorOfMap([](TensorMap &map) { map.strides[0] = INT64_MAX; }), HasSubstr("strides"));
  EXPECT_THAT(errorOfMap([](TensorMap &map) { map.box = {63, 8}; }), HasSubstr("multiples of 16"));
  EXPECT_THAT(errorOfMap([](TensorMap &map) { map.box = {64, 257}; }),
              HasSubstr("256 are the most"));
}

TEST_F(CudaDevice, SaysWhenTheProcessHasLostItsGpu) {
  auto *setResult = reinterpret_cast<void (*)(int)>(driverFunction("fakeDriverInit"));
  if (!setResult)
    GTEST_SKIP() << "this driver fails on its own terms";
  setResult(719); // this process has had a context
  const auto lost = createCudaDevice(testOptions());
  setResult(100);
  const auto none = createCudaDevice(testOptions());
  setResult(0);
  EXPECT_EQ(kindOf(lost), ErrorKind::Failed);
  EXPECT_THAT(errorOf(lost), AllOf(HasSubstr("CUDA_ERROR_LAUNCH_FAILED"), HasSubstr("start the")));
  EXPECT_EQ(kindOf(none), ErrorKind::Missing);
}

TEST(CudaLibrary, MissesWhatIsNotThere) {
  const auto none = createCudaDevice({.libraryPath = "/nowhere/libcuda.so"});
  EXPECT_EQ(kindOf(none), ErrorKind::Missing);
  EXPECT_THAT(errorOf(none), HasSubstr("/nowhere/libcuda.so"));
  // Which does not travel with the program.
  if (!std::filesystem::exists(EMPTY_LIBRARY))
    GTEST_SKIP() << EMPTY_LIBRARY << " is not here";
  const auto empty = createCudaDevice({.libraryPath = EMPTY_LIBRARY});
  EXPECT_EQ(kindOf(empty), ErrorKind::Missing);
  EXPECT_THAT(errorOf(empty), AllOf(HasSubstr("cuInit"), HasSubstr("cuTensorMapEncodeTiled")));
  CudaOptions tenth = testOptions();
  tenth.ordinal = 9;
  const auto beyond = createCudaDevice(tenth);
  EXPECT_EQ(kindOf(beyond), ErrorKind::Missing);
}

} // namespace
