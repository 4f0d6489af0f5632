// Where a cache's slots have their bytes.
#include "kernelforge/support/CacheSlot.h"

#include <cmath>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

using namespace kernelforge;

TEST(CacheSlot, BytesOfEveryType) {
  EXPECT_EQ((CacheSlot{ElementType::F32, 3, 5}.bytes()), 60);
  EXPECT_EQ((CacheSlot{ElementType::F16, 3, 5}.bytes()), 30);
  EXPECT_EQ((CacheSlot{ElementType::BF16, 3, 5}.bytes()), 30);
  EXPECT_EQ((CacheSlot{ElementType::Q8_0, 2, 64}.bytes()), 128 + 8);
  EXPECT_EQ((CacheSlot{ElementType::Q8_0, 3, 32}.bytes()), 96 + 8); // three scales and a filling
  EXPECT_EQ((CacheSlot{ElementType::Q8_0, 1, 33}.checkedBytes(1)), std::nullopt);
  EXPECT_EQ((CacheSlot{ElementType::F16, 3, 5}.checkedBytes(7)), 210u);
  EXPECT_EQ((CacheSlot{ElementType::F32, 1, 64}.checkedBytes(uint64_t(1) << 60)), std::nullopt);
  EXPECT_EQ((CacheSlot{ElementType::F32, int64_t(1) << 40, int64_t(1) << 40}.bytes()), INT64_MAX);
}

TEST(CacheSlot, HeadsComeBackAsTheyWereRounded) {
  std::vector<float> values(3 * 64);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = std::sin(float(i)) * float(i % 50);
  for (ElementType type :
       {ElementType::F32, ElementType::F16, ElementType::BF16, ElementType::Q8_0}) {
    const CacheSlot slot{type, 3, 64};
    std::vector<std::byte> row(*rowBytes(type, values.size())), memory(slot.bytes());
    std::vector<float> expected(values.size()), head(64);
    quantizeRow(type, values.data(), values.size(), row.data());
    dequantizeRow(type, row.data(), values.size(), expected.data());
    slot.write(values.data(), memory.data());
    for (int64_t h = 0; h < 3; ++h) {
      slot.read(memory.data(), h, head.data());
      EXPECT_EQ(std::memcmp(head.data(), expected.data() + h * 64, 64 * sizeof(float)), 0)
          << info(type).name << ", head " << h;
    }
  }
}

TEST(CacheSlot, QuantsComeBeforeScales) {
  const CacheSlot slot{ElementType::Q8_0, 1, 64};
  std::vector<float> values(64, 0.0f);
  values[3] = 127.0f;  // a scale of 1
  values[40] = -63.5f; // a scale of a half
  std::vector<std::byte> memory(slot.bytes());
  slot.write(values.data(), memory.data());
  EXPECT_EQ(std::to_integer<int>(memory[3]), 127);
  EXPECT_EQ(std::to_integer<int8_t>(memory[40]), -127);
  uint16_t scales[2];
  std::memcpy(scales, memory.data() + 64, sizeof(scales));
  EXPECT_EQ(halfToFloat(scales[0]), 1.0f);
  EXPECT_EQ(halfToFloat(scales[1]), 0.5f);
}
