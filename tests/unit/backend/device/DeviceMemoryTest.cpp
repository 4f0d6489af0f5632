// Memory and copies of any device.
#include "DeviceFixture.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

using DeviceMemory = DeviceTest;

TEST_F(DeviceMemory, IsZeroAtFirst) {
  for (std::byte byte : bytesOf(memory(1003)))
    ASSERT_EQ(byte, std::byte(0));
}

TEST_F(DeviceMemory, CopiesAnyBytes) {
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

TEST_F(DeviceMemory, ImportsInPieces) {
  std::vector<std::byte> bytes((80 << 20) + 3);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = std::byte(i * 2654435761U >> 13);
  auto ref = device->import(bytes, MemoryUse::Weights, nullptr);
  ASSERT_TRUE(ref) << ref.error().line();
  EXPECT_EQ(ref->bytes, int64_t(bytes.size()));
  EXPECT_TRUE(bytesOf(*ref) == bytes);
}

TEST_F(DeviceMemory, KeepsOrderOfCopies) {
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

TEST_F(DeviceMemory, RefusesWhatCannotBe) {
  EXPECT_EQ(kindOf(device->allocate(-1, MemoryUse::Arena)), ErrorKind::Unusable);
  const auto beyond = device->allocate(int64_t(1) << 60, MemoryUse::Arena);
  EXPECT_EQ(kindOf(beyond), ErrorKind::Unusable);
  std::vector<std::byte> bytes(8);
  EXPECT_EQ(kindOf(device->upload(bytes, memory(9))), ErrorKind::Unusable);
  EXPECT_EQ(kindOf(device->upload(bytes, {memory(8).memory, 1, 8})), ErrorKind::Unusable);
  EXPECT_EQ(kindOf(device->upload(bytes, {})), ErrorKind::Unusable);
  EXPECT_EQ(kindOf(device->download(memory(9), bytes)), ErrorKind::Unusable);
  auto other = testTarget().create();
  ASSERT_TRUE(other) << other.error().line();
  EXPECT_THAT(errorOf((*other)->upload(bytes, memory(8))), HasSubstr("another device"));
}

} // namespace
