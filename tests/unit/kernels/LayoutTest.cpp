// The layouts of weights: exact bytes, and every type there and back.
#include "kernelforge/kernels/Layout.h"

#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <tuple>
#include <vector>

namespace kernelforge {
namespace {

std::vector<std::byte> randomBytes(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte &byte : bytes)
    byte = static_cast<std::byte>(random());
  return bytes;
}

/// Memory of the packed form, poisoned, with guard bytes behind it.
struct Packed {
  Packed(WeightLayout layout, ElementType type, const std::vector<std::byte> &rows, int64_t n,
         int64_t k)
      : size(*layoutBytes(layout, type, n, k)), bytes(size + 64, std::byte{0xa5}) {
    packWeight(layout, type, rows.data(), n, k, bytes.data());
  }
  size_t size;
  std::vector<std::byte> bytes;
};

class EveryType : public testing::TestWithParam<std::tuple<WeightLayout, ElementType>> {};

TEST_P(EveryType, ComesBackBitByBit) {
  const auto [layout, type] = GetParam();
  const ElementTypeInfo &t = info(type);
  if (layout == WeightLayout::Planes && !t.isQuantized())
    GTEST_SKIP() << "plain numbers have no planes";
  for (int64_t n : {1, 15, 16, 17, 33})
    for (int64_t blocks : {1, 3, 70}) {
      const int64_t k = blocks * t.blockElements;
      const size_t bytes = *rowBytes(t.type, k);
      auto rows = randomBytes(n * bytes, static_cast<unsigned>(n * 100 + blocks));
      Packed packed(layout, t.type, rows, n, k);
      std::vector<float> expected(k), actual(k);
      WeightView view{t.type, packed.bytes.data(), n, k, layout};
      for (int64_t row = 0; row < n; ++row) {
        dequantizeRow(t.type, rows.data() + row * bytes, k, expected.data());
        std::fill(actual.begin(), actual.end(), -1.0f);
        view.readRow(row, actual.data());
        ASSERT_EQ(0, std::memcmp(expected.data(), actual.data(), k * sizeof(float)))
            << "row " << row << " of " << n << " x " << k;
      }
      // Rows that fill the last group are zero, and nothing is written behind it.
      const int64_t filled = layout == WeightLayout::Interleaved ? (n + 15) / 16 * 16 : n;
      for (int64_t row = n; row < filled; ++row) {
        view.readRow(row, actual.data());
        for (float value : actual)
          ASSERT_EQ(value, 0.0f);
      }
      for (size_t i = packed.size; i < packed.bytes.size(); ++i)
        ASSERT_EQ(packed.bytes[i], std::byte{0xa5});
    }
}

std::vector<ElementType> everyType() {
  std::vector<ElementType> types;
  for (const ElementTypeInfo &t : elementTypes())
    types.push_back(t.type);
  return types;
}

INSTANTIATE_TEST_SUITE_P(Layout, EveryType,
                         testing::Combine(testing::Values(WeightLayout::RowMajor,
                                                          WeightLayout::Interleaved,
                                                          WeightLayout::Planes),
                                          testing::ValuesIn(everyType())),
                         [](const auto &test) {
                           return std::string(nameOf(std::get<0>(test.param))) + "_" +
                                  std::string(kernelforge::info(std::get<1>(test.param)).name);
                         });

TEST(Layout, PutsPlainElementsOfARowSixteenApart) {
  // 17 rows of 3: element (n, k) is 100 n + k.
  std::vector<float> rows;
  for (int n = 0; n < 17; ++n)
    for (int k = 0; k < 3; ++k)
      rows.push_back(static_cast<float>(100 * n + k));
  std::vector<float> packed(32 * 3, -1.0f);
  packInterleaved(ElementType::F32, reinterpret_cast<std::byte *>(rows.data()), 17, 3,
                  reinterpret_cast<std::byte *>(packed.data()));
  EXPECT_EQ(packed[0], 0);
  EXPECT_EQ(packed[1], 100);
  EXPECT_EQ(packed[15], 1500);
  EXPECT_EQ(packed[16], 1);
  EXPECT_EQ(packed[2 * 16 + 7], 702);
  EXPECT_EQ(packed[3 * 16], 1600);
  EXPECT_EQ(packed[3 * 16 + 1], 0);
  EXPECT_EQ(packed[5 * 16], 1602);
}

TEST(Layout, PutsPairsOfBfloat16SideBySideWhereRowsAreWholePairs) {
  // Element (n, k) of 16 rows is 16 n + k.
  for (int width : {4, 3}) {
    std::vector<uint16_t> rows, packed(static_cast<size_t>(16 * width), 0xffff);
    for (int n = 0; n < 16; ++n)
      for (int k = 0; k < width; ++k)
        rows.push_back(static_cast<uint16_t>(16 * n + k));
    packInterleaved(ElementType::BF16, reinterpret_cast<std::byte *>(rows.data()), 16, width,
                    reinterpret_cast<std::byte *>(packed.data()));
    for (int n = 0; n < 16; ++n)
      for (int k = 0; k < width; ++k) {
        const int place = width == 4 ? k / 2 * 32 + 2 * n + k % 2 : 16 * k + n;
        EXPECT_EQ(packed[static_cast<size_t>(place)], 16 * n + k);
      }
  }
}

TEST(Layout, PutsScalesThenMinimaThenWordsOfQuants) {
  // 16 rows of two q4_1 blocks; byte j of row n's block b is n + 16 j + 7 b.
  constexpr int blockBytes = 20;
  std::vector<std::byte> rows(16 * 2 * blockBytes), packed(rows.size());
  auto byteAt = [](int n, int b, int j) { return static_cast<std::byte>(n + 16 * j + 7 * b); };
  for (int n = 0; n < 16; ++n)
    for (int b = 0; b < 2; ++b)
      for (int j = 0; j < blockBytes; ++j)
        rows[(n * 2 + b) * blockBytes + j] = byteAt(n, b, j);
  packInterleaved(ElementType::Q4_1, rows.data(), 16, 64, packed.data());
  for (int b = 0; b < 2; ++b) {
    const std::byte *block = packed.data() + b * 16 * blockBytes;
    for (int n = 0; n < 16; ++n) {
      for (int j = 0; j < 2; ++j) {
        EXPECT_EQ(block[2 * n + j], byteAt(n, b, j)) << "d";
        EXPECT_EQ(block[32 + 2 * n + j], byteAt(n, b, 2 + j)) << "m";
      }
      for (int w = 0; w < 4; ++w)
        for (int j = 0; j < 4; ++j)
          EXPECT_EQ(block[64 + (w * 16 + n) * 4 + j], byteAt(n, b, 4 + 4 * w + j)) << "word " << w;
    }
  }
}

TEST(Layout, PutsPartsOfABlockOneAfterAnother) {
  // 16 rows of one block. q6_k: d is last in the file and first here, then the sub-scales, the high
  // bits and the low ones.
  constexpr int blockBytes = 210;
  const std::vector<std::byte> rows = randomBytes(16 * blockBytes, 9);
  std::vector<std::byte> packed(rows.size());
  packInterleaved(ElementType::Q6_K, rows.data(), 16, 256, packed.data());
  for (int n = 0; n < 16; ++n) {
    const std::byte *row = rows.data() + n * blockBytes;
    for (int j = 0; j < 2; ++j)
      EXPECT_EQ(packed[2 * n + j], row[208 + j]) << "d";
    int at = 32;
    for (auto [offset, bytes] : {std::pair(192, 16), std::pair(128, 64), std::pair(0, 128)})
      for (int w = 0; w < bytes / 4; ++w, at += 64)
        for (int j = 0; j < 4; ++j)
          EXPECT_EQ(packed[at + 4 * n + j], row[offset + 4 * w + j]) << offset << " word " << w;
  }
}

TEST(Layout, PutsEachPartOfABlockIntoItsPlane) {
  // 3 rows of one block of q6_k: quants, high bits, sub-scales, scales, as the file has each of
  // them.
  constexpr int blockBytes = 210;
  const std::vector<std::byte> rows = randomBytes(3 * blockBytes, 11);
  const Packed q6(WeightLayout::Planes, ElementType::Q6_K, rows, 3, 256);
  ASSERT_EQ(q6.size, 3 * (128 + 64 + 16) + 16U);
  for (auto [begin, offset, bytes] :
       {std::tuple(0, 0, 128), {3 * 128, 128, 64}, {3 * 192, 192, 16}, {3 * 208, 208, 2}})
    for (int n = 0; n < 3; ++n)
      for (int j = 0; j < bytes; ++j)
        ASSERT_EQ(q6.bytes[begin + n * bytes + j], rows[n * blockBytes + offset + j])
            << "byte " << j << " of what stands at " << offset << " in row " << n;
  for (size_t i = 3 * 210; i < q6.size; ++i)
    EXPECT_EQ(q6.bytes[i], std::byte{0}) << "filling";

  // One row of two blocks of q4_1: a scale and its minimum are one word.
  const std::vector<std::byte> row = randomBytes(40, 12);
  const Packed q4(WeightLayout::Planes, ElementType::Q4_1, row, 1, 64);
  ASSERT_EQ(q4.size, 48U);
  for (int block = 0; block < 2; ++block) {
    for (int j = 0; j < 16; ++j)
      EXPECT_EQ(q4.bytes[16 * block + j], row[20 * block + 4 + j]) << "quants " << j;
    for (int j = 0; j < 4; ++j)
      EXPECT_EQ(q4.bytes[32 + 4 * block + j], row[20 * block + j]) << "d and m " << j;
  }
}

TEST(Layout, BytesAreCountedOrRefused) {
  // Two blocks of 2 + 32 bytes; planes are filled to 16 bytes each.
  EXPECT_EQ(layoutBytes(WeightLayout::RowMajor, ElementType::Q8_0, 2, 32), 68U);
  EXPECT_EQ(layoutBytes(WeightLayout::Interleaved, ElementType::Q8_0, 2, 32), 16 * 34U);
  EXPECT_EQ(layoutBytes(WeightLayout::Planes, ElementType::Q8_0, 2, 32), 64 + 16U);
  EXPECT_EQ(layoutBytes(WeightLayout::Planes, ElementType::Q8_0, 0, 32), 0U);
  for (WeightLayout layout :
       {WeightLayout::RowMajor, WeightLayout::Interleaved, WeightLayout::Planes}) {
    EXPECT_EQ(weightLayoutByName(nameOf(layout)), layout);
    EXPECT_EQ(layoutBytes(layout, ElementType::Q8_0, 2, 33), std::nullopt) << "no whole block";
    EXPECT_EQ(layoutBytes(layout, ElementType::Q8_0, UINT64_MAX / 34, 64), std::nullopt);
  }
  EXPECT_EQ(layoutBytes(WeightLayout::Planes, ElementType::Q8_0, INT64_MAX / 34, 32), std::nullopt);
  EXPECT_EQ(weightLayoutByName("columns"), std::nullopt);
}

} // namespace
} // namespace kernelforge
