#include "kernelforge/support/ElementType.h"

#include "kernelforge/support/Json.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <vector>

namespace kernelforge {
namespace {

std::vector<std::byte> bytesOf(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (int value : values)
    bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

void putHalf(std::vector<std::byte> &row, size_t at, float value) {
  const uint16_t bits = floatToHalf(value);
  std::memcpy(row.data() + at, &bits, sizeof(bits));
}

TEST(ElementType, TableIsFoundByNameAndId) {
  EXPECT_EQ(elementTypes().size(), 18u);
  for (const ElementTypeInfo &t : elementTypes()) {
    EXPECT_EQ(elementTypeByName(t.name), t.type);
    if (t.type != ElementType::F8_E4M3) // which no GGUF file has
      EXPECT_EQ(elementTypeByGgmlId(t.ggmlId), t.type);
    EXPECT_EQ(&info(t.type), &t);
  }
  EXPECT_EQ(elementTypeByGgmlId(3), ElementType::Q4_1);
  EXPECT_EQ(elementTypeByGgmlId(6), ElementType::Q5_0);
  EXPECT_EQ(elementTypeByGgmlId(12), ElementType::Q4_K);
  EXPECT_EQ(elementTypeByGgmlId(14), ElementType::Q6_K);
  EXPECT_EQ(elementTypeByName("q6_k"), ElementType::Q6_K);
  EXPECT_EQ(elementTypeByGgmlId(39), ElementType::MXFP4);
  EXPECT_EQ(elementTypeByName("q8_k"), std::nullopt);
  EXPECT_EQ(elementTypeByGgmlId(15), std::nullopt);
  EXPECT_EQ(elementTypeByGgmlId(-1), std::nullopt);
}

TEST(ElementType, RowBytesAreWholeBlocksWithoutOverflow) {
  EXPECT_EQ(rowBytes(ElementType::F32, 3), 12u);
  EXPECT_EQ(rowBytes(ElementType::Q4_1, 64), 40u);
  EXPECT_EQ(rowBytes(ElementType::Q8_0, 0), 0u);
  EXPECT_EQ(rowBytes(ElementType::Q5_0, 64), 44u);
  EXPECT_EQ(rowBytes(ElementType::Q4_K, 512), 288u);
  EXPECT_EQ(rowBytes(ElementType::Q6_K, 256), 210u);
  EXPECT_EQ(rowBytes(ElementType::Q4_0, 33), std::nullopt);
  EXPECT_EQ(rowBytes(ElementType::Q4_K, 288), std::nullopt);
  EXPECT_EQ(rowBytes(ElementType::F32, uint64_t{1} << 62), std::nullopt);
}

TEST(ElementType, HalfConversionIsExactForAllBits) {
  for (uint32_t i = 0; i < 0x10000; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    const float value = halfToFloat(bits);
    const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
    if (exponent == 31 && mantissa != 0) {
      EXPECT_TRUE(std::isnan(value));
      EXPECT_TRUE(std::isnan(halfToFloat(floatToHalf(value))));
      continue;
    }
    double expected = exponent == 31  ? std::numeric_limits<double>::infinity()
                      : exponent == 0 ? std::ldexp(mantissa, -24)
                                      : std::ldexp(1024 + mantissa, exponent - 25);
    expected = bits & 0x8000 ? -expected : expected;
    ASSERT_EQ(value, expected) << i;
    ASSERT_EQ(std::signbit(value), (bits & 0x8000) != 0) << i;
    ASSERT_EQ(floatToHalf(value), bits) << i;
  }
}

TEST(ElementType, FloatToHalfRoundsToNearestEven) {
  EXPECT_EQ(floatToHalf(1.0f + 0x1p-11f), 0x3c00);            // halfway, even below
  EXPECT_EQ(floatToHalf(1.0f + 0x1p-11f + 0x1p-20f), 0x3c01); // above halfway
  EXPECT_EQ(floatToHalf(1.0f + 3 * 0x1p-11f), 0x3c02);        // halfway, even above
  EXPECT_EQ(floatToHalf(65519.996f), 0x7bff);
  EXPECT_EQ(floatToHalf(65520.0f), 0x7c00);
  EXPECT_EQ(floatToHalf(-1e30f), 0xfc00);
  EXPECT_EQ(floatToHalf(0x1p-25f), 0x0000); // halfway to the least subnormal
  EXPECT_EQ(floatToHalf(0x1.000002p-25f), 0x0001);
  EXPECT_EQ(floatToHalf(0x1.ff8p-15f), 0x03ff); // the largest subnormal
  EXPECT_EQ(floatToHalf(0x1.ffcp-15f), 0x0400); // rounds up into the normal numbers
  EXPECT_EQ(floatToHalf(-0.0f), 0x8000);
}

TEST(ElementType, HalfRoundingPicksTheNearerNeighbour) {
  std::mt19937 random(7);
  for (int i = 0; i < 200000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (!std::isfinite(value) || std::fabs(value) >= 65504)
      continue;
    const uint16_t bits = floatToHalf(value);
    const double error = std::fabs(double(halfToFloat(bits)) - value);
    for (int step : {-1, 1}) {
      if ((bits & 0x7fff) == 0 && step < 0)
        continue;
      const double other = halfToFloat(static_cast<uint16_t>(bits + step));
      ASSERT_LE(error, std::fabs(other - value)) << value;
    }
  }
}

TEST(ElementType, Bfloat16RoundsToNearestEvenAndKeepsNan) {
  EXPECT_EQ(bfloat16ToFloat(0x3f80), 1.0f);
  EXPECT_EQ(floatToBfloat16(1.0f), 0x3f80);
  EXPECT_EQ(floatToBfloat16(1.0f + 0x1p-8f), 0x3f80);     // halfway, even below
  EXPECT_EQ(floatToBfloat16(1.0f + 3 * 0x1p-8f), 0x3f82); // halfway, even above
  EXPECT_EQ(floatToBfloat16(std::numeric_limits<float>::max()), 0x7f80);
  // A payload that only has low bits must not become infinity.
  EXPECT_TRUE(std::isnan(bfloat16ToFloat(floatToBfloat16(std::bit_cast<float>(0x7f800001u)))));
}

TEST(ElementType, E4M3IsExactForAllBitsAndRoundsToNearestEven) {
  for (int bits = 0; bits < 256; ++bits) {
    const float value = e4m3ToFloat(static_cast<uint8_t>(bits));
    const int exponent = bits >> 3 & 15, mantissa = bits & 7;
    EXPECT_EQ(std::signbit(value), (bits & 0x80) != 0) << bits;
    if ((bits & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(value)) << bits;
      EXPECT_EQ(floatToE4M3(value) & 0x7f, 0x7f);
      continue;
    }
    const double expected =
        exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    EXPECT_EQ(std::fabs(value), expected) << bits;
    EXPECT_EQ(floatToE4M3(value), bits);
  }
  EXPECT_EQ(floatToE4M3(17.0f), 0x58); // halfway to 18, even below
  EXPECT_EQ(floatToE4M3(19.0f), 0x5a); // halfway, even above
  EXPECT_EQ(floatToE4M3(31.5f), 0x60); // into the next power of two
  EXPECT_EQ(floatToE4M3(1e9f), 0x7e);  // the largest
  EXPECT_EQ(floatToE4M3(-1e9f), 0xfe);
  EXPECT_EQ(floatToE4M3(0x1p-11f), 0x00); // less than half of the least
}

/// A block of e4m3 keeps its NaNs, and what is beside them.
TEST(ElementType, NumbersE4M3StayNan) {
  std::vector<std::byte> row(132, std::byte{0x38}); // ones
  const float scale = 0.5f;
  std::memcpy(row.data(), &scale, sizeof(scale));
  row[4 + 5] = std::byte{0x7f};
  row[4 + 100] = std::byte{0xff};
  float out[128];
  dequantizeRow(ElementType::F8_E4M3, row.data(), 128, out);
  for (int i = 0; i < 128; ++i)
    EXPECT_EQ(std::isnan(out[i]), i == 5 || i == 100) << i;
  EXPECT_EQ(out[6], 0.5f);
}

TEST(ElementType, Q4_1BlockByHand) {
  std::vector<std::byte> row(20);
  putHalf(row, 0, 0.5f);
  putHalf(row, 2, -3.0f);
  row[4] = std::byte{0xa1};  // element 0 is 1, element 16 is 10
  row[19] = std::byte{0x0f}; // element 15 is 15, element 31 is 0
  float out[32];
  dequantizeRow(ElementType::Q4_1, row.data(), 32, out);
  EXPECT_EQ(out[0], -2.5f);
  EXPECT_EQ(out[16], 2.0f);
  EXPECT_EQ(out[15], 4.5f);
  EXPECT_EQ(out[31], -3.0f);
  EXPECT_EQ(out[1], -3.0f);
}

TEST(ElementType, Q4_0AndQ8_0BlocksByHand) {
  std::vector<std::byte> row(18);
  putHalf(row, 0, 2.0f);
  row[2] = std::byte{0xf0};
  float out[32];
  dequantizeRow(ElementType::Q4_0, row.data(), 32, out);
  EXPECT_EQ(out[0], -16.0f);
  EXPECT_EQ(out[16], 14.0f);

  row.assign(34, std::byte{});
  putHalf(row, 0, -0.25f);
  row[2] = std::byte{0x80}; // -128
  row[33] = std::byte{127};
  dequantizeRow(ElementType::Q8_0, row.data(), 32, out);
  EXPECT_EQ(out[0], 32.0f);
  EXPECT_EQ(out[31], -31.75f);
}

std::vector<std::byte> fromHex(const std::string &text) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2)
    bytes.push_back(static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

TEST(ElementType, BlocksHaveTheValuesOfAnotherImplementation) {
  auto golden = readJsonFile(KERNELFORGE_TEST_DATA "/golden/data/quantized_blocks.json", "golden");
  ASSERT_TRUE(golden) << golden.error().line();
  for (const ElementTypeInfo &t : elementTypes()) {
    if (!t.isQuantized())
      continue;
    auto entry = golden->root().object(t.name);
    ASSERT_TRUE(entry) << entry.error().line();
    const auto row = fromHex(*entry->string("blocks", 1 << 16));
    const auto expected = fromHex(*entry->string("values", 1 << 16));
    std::vector<float> out(expected.size() / sizeof(float));
    ASSERT_EQ(row.size(), rowBytes(t.type, out.size()));
    dequantizeRow(t.type, row.data(), out.size(), out.data());
    EXPECT_EQ(std::memcmp(out.data(), expected.data(), expected.size()), 0) << t.name;
  }
}

TEST(ElementType, RowsMayBeginAtAnyAddress) {
  std::vector<float> in(256), aligned(256), shifted(256);
  for (size_t i = 0; i < in.size(); ++i)
    in[i] = std::sin(static_cast<float>(i));
  for (const ElementTypeInfo &t : elementTypes()) {
    std::vector<std::byte> row(*rowBytes(t.type, 256) + 1);
    quantizeRow(t.type, in.data(), 256, row.data());
    dequantizeRow(t.type, row.data(), 256, aligned.data());
    std::memmove(row.data() + 1, row.data(), row.size() - 1);
    dequantizeRow(t.type, row.data() + 1, 256, shifted.data());
    EXPECT_EQ(aligned, shifted) << t.name;
  }
}

TEST(ElementType, QuantizersFollowTheReferenceByHand) {
  // Q4_0: d is the value of largest magnitude over -8, so that this value is quant 0.
  std::vector<float> in(32, 0.0f);
  in[3] = 4.0f;
  in[20] = -2.0f;
  std::vector<std::byte> row(18);
  quantizeRow(ElementType::Q4_0, in.data(), 32, row.data());
  EXPECT_EQ(std::vector(row.begin(), row.begin() + 2), bytesOf({0x00, 0xb8})); // -0.5
  EXPECT_EQ(row[2 + 3], std::byte{0x80});                                      // 0 and 8
  EXPECT_EQ(row[2 + 4], std::byte{0xc8});                                      // 8 and 12

  // Q5_0 likewise, with -16; the fifth bits are apart.
  row.resize(22);
  quantizeRow(ElementType::Q5_0, in.data(), 32, row.data());
  EXPECT_EQ(std::vector(row.begin(), row.begin() + 2), bytesOf({0x00, 0xb4})); // -0.25
  EXPECT_EQ(std::vector(row.begin() + 2, row.begin() + 6), bytesOf({0xf7, 0xff, 0xff, 0xff}));
  EXPECT_EQ(row[6 + 3], std::byte{0x00}); // 0 and 16
  EXPECT_EQ(row[6 + 4], std::byte{0x80}); // 16 and 24

  // Q4_1: 15 steps from minimum to maximum.
  for (int i = 0; i < 32; ++i)
    in[i] = static_cast<float>(i % 16) - 5.0f;
  row.resize(20);
  quantizeRow(ElementType::Q4_1, in.data(), 32, row.data());
  float out[32];
  dequantizeRow(ElementType::Q4_1, row.data(), 32, out);
  EXPECT_EQ(std::vector<float>(out, out + 32), in);

  // Q8_0: the largest magnitude becomes 127; halves are rounded away from zero.
  in.assign(32, 0.0f);
  in[0] = -127.0f;
  in[1] = 2.5f;
  in[2] = -2.5f;
  row.resize(34);
  quantizeRow(ElementType::Q8_0, in.data(), 32, row.data());
  EXPECT_EQ(std::vector(row.begin(), row.begin() + 5), bytesOf({0x00, 0x3c, 0x81, 3, 0xfd}));
}

TEST(ElementType, QuantizationErrorIsWithinAStep) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> in(32 * 50), out(in.size());
  for (float &x : in)
    x = normal(random);
  for (auto [type, steps] :
       {std::pair(ElementType::Q4_0, 8.0f), std::pair(ElementType::Q4_1, 15.0f),
        std::pair(ElementType::Q5_0, 16.0f), std::pair(ElementType::Q5_1, 31.0f),
        std::pair(ElementType::Q8_0, 127.0f)}) {
    std::vector<std::byte> row(*rowBytes(type, in.size()));
    quantizeRow(type, in.data(), in.size(), row.data());
    dequantizeRow(type, row.data(), in.size(), out.data());
    for (size_t block = 0; block < in.size(); block += 32) {
      float low = 0, high = 0;
      for (size_t i = block; i < block + 32; ++i) {
        low = std::fmin(low, in[i]);
        high = std::fmax(high, in[i]);
      }
      const float range = info(type).hasMin() ? high - low : std::fmax(-low, high);
      for (size_t i = block; i < block + 32; ++i)
        ASSERT_LE(std::fabs(out[i] - in[i]), 1.01f * range / steps + 0.002f * range)
            << info(type).name << " " << i;
    }
  }
}

/// Root of the mean squared error over that of the values.
double relativeError(ElementType type, const std::vector<float> &in) {
  std::vector<std::byte> row(*rowBytes(type, in.size()));
  std::vector<float> out(in.size());
  quantizeRow(type, in.data(), in.size(), row.data());
  dequantizeRow(type, row.data(), in.size(), out.data());
  double error = 0, square = 0;
  for (size_t i = 0; i < in.size(); ++i) {
    error += (double(out[i]) - in[i]) * (double(out[i]) - in[i]);
    square += double(in[i]) * in[i];
  }
  return std::sqrt(error / square);
}

TEST(ElementType, SubBlocksAreFittedWell) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> even(256 * 40), scaled(even.size());
  for (size_t i = 0; i < even.size(); ++i) {
    even[i] = normal(random);
    scaled[i] = even[i] * std::ldexp(1.0f, static_cast<int>(i / 16 % 4));
  }
  EXPECT_LT(relativeError(ElementType::Q4_K, even), 0.076);
  EXPECT_LT(relativeError(ElementType::Q5_K, even), 0.038);
  EXPECT_LT(relativeError(ElementType::Q6_K, even), 0.0175);
  EXPECT_LT(relativeError(ElementType::Q3_K, even), 0.16);
  EXPECT_LT(relativeError(ElementType::Q2_K, even), 0.30);
  EXPECT_LT(relativeError(ElementType::IQ4_NL, even), 0.08);
  EXPECT_LT(relativeError(ElementType::IQ4_XS, even), 0.08);
  EXPECT_LT(relativeError(ElementType::MXFP4, even), 0.13);
  EXPECT_LT(relativeError(ElementType::F8_E4M3, even), 0.03);
  // Sub-blocks of different sizes suffer no more.
  EXPECT_LT(relativeError(ElementType::Q6_K, scaled), 0.0175);
  // What a block can be is what it becomes.
  for (ElementType type : {ElementType::Q4_K, ElementType::Q6_K}) {
    std::vector<float> exact(256);
    for (int i = 0; i < 256; ++i)
      exact[i] = static_cast<float>(i % 16) - (type == ElementType::Q6_K ? 8.0f : 0.0f);
    EXPECT_LT(relativeError(type, exact), 1e-3) << info(type).name;
    EXPECT_LT(relativeError(type, std::vector<float>(256, 0.5f)), 1e-3) << info(type).name;
  }
}

TEST(ElementType, BlocksOfZerosAreZeros) {
  for (const ElementTypeInfo &t : elementTypes()) {
    std::vector<float> in(256), out(256, 1.0f);
    std::vector<std::byte> row(*rowBytes(t.type, 256), std::byte{0xa5});
    quantizeRow(t.type, in.data(), 256, row.data());
    dequantizeRow(t.type, row.data(), 256, out.data());
    EXPECT_EQ(in, out) << t.name;
  }
}

TEST(ElementType, QuantizersTakeAnyInput) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const ElementTypeInfo &t : elementTypes())
    for (float strange : {0.0f, -0.0f, inf, -inf, std::nanf(""), 1e-45f, 3e38f}) {
      std::vector<float> in(256, 1.0f), out(256);
      in[7] = strange;
      std::vector<std::byte> row(*rowBytes(t.type, 256));
      quantizeRow(t.type, in.data(), 256, row.data());
      dequantizeRow(t.type, row.data(), 256, out.data());
      if (!t.isQuantized() && t.type != ElementType::I32) {
        EXPECT_EQ(out[0], 1.0f);
      }
    }
}

} // namespace
} // namespace kernelforge
