// Libraries, adapters, memory and copies.
#include "DeviceFixture.h"

#include <gmock/gmock.h>
#include <numeric>

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

TEST_F(WebGpuMemory, IsZeroAtFirst) {
  for (std::byte byte : bytesOf(memory(1003)))
    ASSERT_EQ(byte, std::byte(0));
}

TEST_F(WebGpuMemory, CopiesAnyBytes) {
  constexpr int all = 40;
  std::vector<std::byte> numbers(all);
  for (int i = 0; i < all; ++i)
    numbers[i] = std::byte(i + 1);
  for (int offset = 0; offset < 9; ++offset)
    for (int bytes = 0; bytes < 14; ++bytes) {
      const BufferRef whole = poisoned(all);
      const BufferRef piece = {whole.memory, offset, bytes};
      put(piece, std::span(numbers).first(bytes));
      std::vector<std::byte> expected(all, std::byte(0xff));
      std::copy_n(numbers.begin(), bytes, expected.begin() + offset);
      ASSERT_EQ(bytesOf(whole), expected) << bytes << " bytes at " << offset;
      ASSERT_EQ(bytesOf(piece), std::vector(numbers.begin(), numbers.begin() + bytes));
    }
}

TEST_F(WebGpuMemory, ImportsInPieces) {
  std::vector<std::byte> bytes((80 << 20) + 3);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = std::byte(i * 2654435761U >> 13);
  auto ref = device->import(bytes, MemoryUse::Weights, nullptr);
  ASSERT_TRUE(ref) << ref.error().line();
  EXPECT_EQ(ref->bytes, int64_t(bytes.size()));
  EXPECT_TRUE(bytesOf(*ref) == bytes);
}

TEST_F(WebGpuMemory, KeepsOrderOfCopies) {
  const BufferRef ref = memory(4096);
  std::vector<int32_t> first(1024, 1), second(1024, 2), read(1024), again(1024);
  put(ref, std::as_bytes(std::span(first)));
  const auto one = device->download(ref, std::as_writable_bytes(std::span(read)));
  put(ref, std::as_bytes(std::span(second)));
  const auto two = device->download(ref, std::as_writable_bytes(std::span(again)));
  ASSERT_TRUE(one && two);
  EXPECT_LT(*one, *two);
  expectGood(device->wait(*two));
  EXPECT_EQ(read, first);
  EXPECT_EQ(again, second);
  expectGood(device->wait(*one));
  expectGood(device->wait(0));
}

TEST_F(WebGpuMemory, RefusesWhatCannotBe) {
  EXPECT_EQ(kindOf(device->allocate(-1, MemoryUse::Arena)), ErrorKind::Unusable);
  const auto beyond = device->allocate(int64_t(1) << 60, MemoryUse::Arena);
  EXPECT_EQ(kindOf(beyond), ErrorKind::Unusable);
  EXPECT_THAT(errorOf(beyond), AllOf(HasSubstr("arena"), HasSubstr("has 0 to")));
  std::vector<std::byte> bytes(8);
  EXPECT_EQ(kindOf(device->upload(bytes, memory(9))), ErrorKind::Unusable);
  EXPECT_EQ(kindOf(device->upload(bytes, {memory(8).memory, 1, 8})), ErrorKind::Unusable);
  EXPECT_EQ(kindOf(device->upload(bytes, {})), ErrorKind::Unusable);
  EXPECT_EQ(kindOf(device->download(memory(9), bytes)), ErrorKind::Unusable);
  auto other = createWebGpuDevice(options());
  ASSERT_TRUE(other) << other.error().line();
  EXPECT_THAT(errorOf((*other)->upload(bytes, memory(8))), HasSubstr("another device"));
}

TEST_F(WebGpuMemory, IsFoundByName) {
  const std::string name = device->info().name;
  WebGpuOptions named = options();
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
