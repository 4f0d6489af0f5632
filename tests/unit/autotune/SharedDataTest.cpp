#include "kernelforge/autotune/SharedData.h"

#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <unistd.h>

using namespace kernelforge;

namespace {

TEST(SharedData, AnotherMappingReadsAndCannotWrite) {
  auto made = SharedData::create(10'000);
  ASSERT_TRUE(made) << made.error().line();
  std::memset(made->data(), 7, 10'000);
  auto opened = SharedData::open(::dup(made->descriptor()));
  ASSERT_TRUE(opened) << opened.error().line();
  EXPECT_EQ(opened->size(), 10'000u);
  EXPECT_EQ(std::memcmp(opened->data(), made->data(), 10'000), 0);
  EXPECT_DEATH(opened->data()[5] = std::byte{1}, "");
}

TEST(SharedData, WhatCannotBeHadIsAnError) {
  EXPECT_FALSE(SharedData::create(uint64_t(1) << 62));
  EXPECT_FALSE(SharedData::open(-1));
  EXPECT_FALSE(GuardedBuffer::create(uint64_t(1) << 62));
  EXPECT_FALSE(GuardedBuffer::create(UINT64_MAX));
}

TEST(GuardedBuffer, EndsWithinACacheLineOfAPageThatCannotBeTouched) {
  for (uint64_t bytes : {0, 1, 4, 60, 64, 68, 800, 4032, 4096, 4097, 8192, 100'000}) {
    auto buffer = GuardedBuffer::create(bytes);
    ASSERT_TRUE(buffer) << buffer.error().line();
    EXPECT_EQ(buffer->size(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
    EXPECT_TRUE(buffer->guardsAreIntact());
    const uint64_t watched = (64 - bytes % 64) % 64;
    if (watched > 0) {
      buffer->data()[bytes] = std::byte{0};
      EXPECT_FALSE(buffer->guardsAreIntact()) << bytes;
      buffer->poison();
      EXPECT_TRUE(buffer->guardsAreIntact());
      buffer->data()[bytes + watched - 1] = std::byte{0};
      EXPECT_FALSE(buffer->guardsAreIntact()) << bytes;
    }
    EXPECT_DEATH(*const_cast<volatile std::byte *>(buffer->data() + bytes + watched) = std::byte{0},
                 "")
        << bytes;
  }
}

TEST(GuardedBuffer, AWriteBeforeItShows) {
  for (uint64_t bytes : {4, 64, 4096, 5000}) {
    for (int before : {1, 4, 64}) {
      auto buffer = GuardedBuffer::create(bytes);
      ASSERT_TRUE(buffer);
      *(buffer->data() - before) = std::byte{0};
      EXPECT_FALSE(buffer->guardsAreIntact()) << bytes << " " << before;
    }
  }
}

TEST(GuardedBuffer, IsPoisonedAndMayBeWritten) {
  auto buffer = GuardedBuffer::create(400);
  ASSERT_TRUE(buffer);
  float values[100];
  std::memcpy(values, buffer->data(), 400);
  for (float value : values)
    EXPECT_TRUE(std::isnan(value));
  std::memset(buffer->data(), 0, 400);
  EXPECT_TRUE(buffer->guardsAreIntact());
  buffer->poison();
  EXPECT_EQ(buffer->data()[399], std::byte{0xff});
  GuardedBuffer moved = std::move(*buffer);
  EXPECT_EQ(moved.size(), 400u);
  EXPECT_TRUE(moved.guardsAreIntact());
}

} // namespace
