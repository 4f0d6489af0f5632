#include "kernelforge/autotune/DeviceOutputs.h"

#include "kernelforge/compiler/Targets.h"

#include <cstdlib>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

/// On each device of this build that has memory of its own.
class Outputs : public testing::Test {
protected:
  void SetUp() override {
    for (const std::string &kind : targetKinds()) {
      auto device = createDevice(kind, {});
      if (!device) {
        ASSERT_EQ(device.error().kind, ErrorKind::Missing) << device.error().line();
        if (kind == "webgpu")
          ASSERT_EQ(std::getenv("KERNELFORGE_REQUIRE_WEBGPU"), nullptr) << device.error().line();
      } else if (!(*device)->info().sharesHostMemory) {
        devices.push_back(std::move(*device));
      }
    }
    if (devices.empty())
      GTEST_SKIP() << "no device with memory of its own is here";
  }

  std::vector<std::unique_ptr<Device>> devices;
};

/// What a kernel might write: `value`, over `bytes` from `offset` on.
void write(Device &device, const BufferRef &at, int64_t offset, int64_t bytes, int value) {
  const std::vector<std::byte> values(static_cast<size_t>(bytes), std::byte(value));
  const auto done = device.upload(values, {at.memory, at.offset + offset, bytes});
  ASSERT_TRUE(done) << done.error().line();
}

TEST_F(Outputs, ComeBackToWhereTheyCameFrom) {
  for (const auto &device : devices) {
    std::vector<std::byte> first(20, std::byte(1)), second(4, std::byte(2)), none;
    DeviceOutputs outputs(*device);
    const Expected<BufferRef> one = outputs.place(first), two = outputs.place(second);
    ASSERT_TRUE(one && two && outputs.place(none));
    EXPECT_EQ(one->bytes, 20);
    const Expected<BufferRef> again = outputs.place(first);
    EXPECT_EQ(again->memory, one->memory);
    EXPECT_NE(two->memory, one->memory);
    write(*device, *one, 4, 8, 7);
    const Expected<bool> intact = outputs.fetch();
    ASSERT_TRUE(intact) << intact.error().line();
    EXPECT_TRUE(*intact);
    for (size_t i = 0; i < first.size(); ++i)
      EXPECT_EQ(first[i], std::byte(i >= 4 && i < 12 ? 7 : 1)) << i;
    EXPECT_EQ(second, std::vector(4, std::byte(2)));
  }
}

TEST_F(Outputs, WhatIsWrittenBesideThemIsNoticed) {
  for (const auto &device : devices)
    for (const int64_t offset : {int64_t(-4), int64_t(20), int64_t(-256), int64_t(272)}) {
      std::vector<std::byte> host(20, std::byte(1));
      DeviceOutputs outputs(*device);
      const Expected<BufferRef> placed = outputs.place(host);
      ASSERT_TRUE(placed) << placed.error().line();
      write(*device, *placed, offset, 4, 7);
      const Expected<bool> intact = outputs.fetch();
      ASSERT_TRUE(intact) << intact.error().line();
      EXPECT_FALSE(*intact) << offset;
      EXPECT_EQ(host, std::vector(20, std::byte(1)));
    }
}

} // namespace
