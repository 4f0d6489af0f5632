// Libraries and adapters.
#include "WebGpuFixture.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::AllOf;
using testing::HasSubstr;

namespace {

using WebGpuMemory = DeviceTest;

TEST_F(WebGpuMemory, InfoDescribesAdapter) {
  const DeviceInfo &info = device->info();
  EXPECT_EQ(info.kind, "webgpu");
  EXPECT_FALSE(info.name.empty());
  EXPECT_FALSE(info.driver.empty());
  EXPECT_GE(info.limits.bindings, 8);
  EXPECT_GE(info.limits.bindingBytes, 128 << 20);
  EXPECT_GE(info.limits.sharedBytes, 16384);
  EXPECT_GE(info.limits.threadsPerBlock, 256);
  EXPECT_EQ(info.limits.blocksPerDimension, 65535);
  EXPECT_GE(info.limits.bufferAlignment, 16);
  EXPECT_EQ(info.limits.indexBits, 32);
  EXPECT_FALSE(info.sharesHostMemory);
  RecordProperty("adapter", info.name + ", " + info.driver);
}

TEST_F(WebGpuMemory, SaysWhatIsTheMost) {
  const auto beyond = device->allocate(int64_t(1) << 60, MemoryUse::Arena);
  EXPECT_THAT(errorOf(beyond), AllOf(HasSubstr("arena"), HasSubstr("has 0 to")));
}

TEST_F(WebGpuMemory, IsFoundByName) {
  const std::string name = device->info().name;
  WebGpuOptions named = testOptions();
  named.adapterName = name.substr(1, 4);
  auto same = createWebGpuDevice(named);
  ASSERT_TRUE(same) << same.error().line();
  EXPECT_EQ((*same)->info().name, name);
  named.adapterName = "Voodoo";
  auto none = createWebGpuDevice(named);
  EXPECT_EQ(kindOf(none), ErrorKind::Missing);
  EXPECT_THAT(errorOf(none), AllOf(HasSubstr("Voodoo"), HasSubstr(name)));
}

TEST(WebGpuLibrary, MissesWhatIsNotThere) {
  const auto none = createWebGpuDevice({.libraryPath = "/nowhere/libwebgpu.so"});
  EXPECT_EQ(kindOf(none), ErrorKind::Missing);
  EXPECT_THAT(errorOf(none), HasSubstr("/nowhere/libwebgpu.so"));
  const auto empty = createWebGpuDevice({.libraryPath = WEBGPU_EMPTY_LIBRARY});
  EXPECT_EQ(kindOf(empty), ErrorKind::Missing);
  EXPECT_THAT(errorOf(empty), AllOf(HasSubstr("wgpuCreateInstance"), HasSubstr("wgpuQueueSubmit")));
  const auto text = createWebGpuDevice({.libraryPath = "/etc/os-release"});
  EXPECT_EQ(kindOf(text), ErrorKind::Missing);
}

} // namespace
