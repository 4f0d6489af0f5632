// What numerics make of the operands of a product, against computations of their own.
#include "kernelforge/kernels/ReferenceMatmul.h"
#include "kernelforge/kernels/ReferenceOperands.h"
#include "tests/unit/kernels/Normals.h"

#include <cmath>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

using namespace kernelforge;
using namespace kernelforge::reference;

namespace {

/// A matmul with its operands.
struct Case {
  MatmulProblem problem;
  std::vector<float> input;
  std::vector<std::byte> weight;

  explicit Case(const MatmulProblem &problem)
      : problem(problem), input(normals(problem.m * problem.k, 1)), weight(problem.weightBytes()) {
    const std::vector<float> values = normals(problem.n * problem.k, 2);
    quantizeRow(problem.weights, values.data(), values.size(), weight.data());
  }

  std::vector<float> result(Precision precision) const {
    std::vector<float> out(static_cast<size_t>(problem.m * problem.n));
    matmulProblem(problem, {weight.data()}, input.data(), out.data(), 1, precision);
    return out;
  }
};

float half(float x) { return halfToFloat(floatToHalf(x)); }
float brain(float x) { return bfloat16ToFloat(floatToBfloat16(x)); }

/// d * sum of xq * q + m * sum of xq, times the row's scale, over the blocks of q8_0 and q4_1: sums
/// of whole numbers, as integer instructions give them.
double integerDot(ElementType type, const float *x, const std::byte *weight, int64_t k,
                  float limit) {
  double total = 0;
  for (int64_t block = 0; block < k / 32; ++block, weight += info(type).blockBytes) {
    float largest = 0;
    for (int i = 0; i < 32; ++i)
      largest = std::max(largest, std::fabs(x[block * 32 + i]));
    const float scale = largest / limit;
    int64_t products = 0, sum = 0;
    uint16_t d = 0, m = 0;
    std::memcpy(&d, weight, 2);
    if (type == ElementType::Q4_1)
      std::memcpy(&m, weight + 2, 2);
    for (int i = 0; i < 32; ++i) {
      const auto q = static_cast<int64_t>(std::nearbyint(x[block * 32 + i] / scale));
      const int64_t w = type == ElementType::Q8_0
                            ? static_cast<int8_t>(weight[2 + i])
                            : static_cast<int>(weight[4 + i % 16]) >> (i / 16 * 4) & 15;
      products += q * w;
      sum += q;
    }
    total += double(scale) *
             (double(halfToFloat(d)) * double(products) + double(halfToFloat(m)) * double(sum));
  }
  return total;
}

} // namespace

TEST(Numerics, NamesGoBothWays) {
  for (Numerics numerics : allNumerics())
    EXPECT_EQ(numericsByName(numericsName(numerics)), numerics);
  EXPECT_EQ(numericsByName("i16"), std::nullopt);
}

TEST(Numerics, BlocksBecomeWholeNumbersOfTheirScale) {
  std::vector<float> values(64, 0.0f);
  values[0] = -254;
  values[1] = 3; // 1.5 steps of 2: ties go to the even
  values[2] = 5; // 2.5
  values[3] = 126.9f;
  const OperandRounding i8(Numerics::I8, Precision::Plain), i8x2(Numerics::I8x2, Precision::Wide);
  std::vector<float> rounded = values, finer = values, exact = values;
  i8.row(rounded.data(), 64);
  EXPECT_EQ(rounded[0], -254);
  EXPECT_EQ(rounded[1], 4);
  EXPECT_EQ(rounded[2], 4);
  EXPECT_EQ(rounded[3], 126);
  EXPECT_EQ(rounded[40], 0);
  i8x2.row(finer.data(), 64);
  for (int i = 0; i < 4; ++i)
    EXPECT_NEAR(finer[size_t(i)], values[size_t(i)], 254.0 / 32512 / 2 * 1.0001) << i;
  EXPECT_NE(finer[3], values[3]);
  OperandRounding(Numerics::I8, Precision::Exact).row(exact.data(), 64);
  EXPECT_EQ(exact, values);
}

TEST(Numerics, WhatOverflowsIsInfiniteInEachPrecision) {
  for (Precision precision : {Precision::Exact, Precision::Wide, Precision::Plain}) {
    EXPECT_EQ(OperandRounding(Numerics::F16, precision).element(-7e4f), -INFINITY);
    EXPECT_EQ(OperandRounding(Numerics::BF16, precision).element(7e4f) == 7e4f,
              precision == Precision::Exact);
  }
}

TEST(Numerics, MatmulRoundsBothOperandsToTheirType) {
  for (ElementType type : {ElementType::F32, ElementType::Q4_1})
    for (Numerics numerics : {Numerics::F16, Numerics::BF16})
      for (bool transpose : {false, true}) {
        if (transpose && type != ElementType::F32)
          continue;
        const Case test({5, 19, 96, type, transpose, {}, numerics});
        const std::vector<float> wide = test.result(Precision::Wide);
        std::vector<float> w(size_t(19 * 96));
        dequantizeRow(type, test.weight.data(), w.size(), w.data());
        const auto round = numerics == Numerics::F16 ? half : brain;
        for (int64_t r = 0; r < 5; ++r)
          for (int64_t c = 0; c < 19; ++c) {
            double sum = 0;
            for (int64_t i = 0; i < 96; ++i)
              sum += double(round(test.input[size_t(r * 96 + i)])) *
                     double(round(w[size_t(transpose ? i * 19 + c : c * 96 + i)]));
            EXPECT_NEAR(wide[size_t(r * 19 + c)], sum, 1e-6 * std::fabs(sum) + 1e-7)
                << test.problem.name() << " " << r << " " << c;
          }
      }
}

TEST(Numerics, MatmulOfWholeNumbersIsWhatIntegersGive) {
  for (ElementType type : {ElementType::Q8_0, ElementType::Q4_1})
    for (Numerics numerics : {Numerics::I8, Numerics::I8x2}) {
      const Case test({3, 17, 256, type, false, {}, numerics});
      const std::vector<float> wide = test.result(Precision::Wide);
      const float limit = numerics == Numerics::I8 ? 127 : 32512;
      const int64_t rowBytes = 256 / 32 * info(type).blockBytes;
      double largest = 0;
      for (float value : wide)
        largest = std::max(largest, std::fabs(double(value)));
      for (int64_t r = 0; r < 3; ++r)
        for (int64_t c = 0; c < 17; ++c)
          EXPECT_NEAR(wide[size_t(r * 17 + c)],
                      integerDot(type, test.input.data() + r * 256,
                                 test.weight.data() + c * rowBytes, 256, limit),
                      1e-6 * largest)
              << test.problem.name() << " " << r << " " << c;
    }
}

TEST(Numerics, ExactIsTheProductOfWhatIsGiven) {
  for (Numerics numerics : {Numerics::F16, Numerics::I8, Numerics::I8x2}) {
    Case test({4, 33, 512, ElementType::Q4_K, false, {}, numerics});
    const std::vector<float> exact = test.result(Precision::Exact);
    const std::vector<float> rounded = test.result(Precision::Wide);
    EXPECT_NE(exact, rounded);
    test.problem.numerics = Numerics::F32;
    EXPECT_EQ(exact, test.result(Precision::Wide));
  }
}

TEST(Numerics, SingleElementsAreThoseOfTheWhole) {
  for (Numerics numerics : {Numerics::F16, Numerics::I8, Numerics::I8x2})
    for (Precision precision : {Precision::Exact, Precision::Wide, Precision::Plain}) {
      const Case test({7, 21, 64, ElementType::Q5_0, false, {}, numerics});
      const std::vector<float> whole = test.result(precision);
      const std::vector<int64_t> places = {0, 20, 21, 77, 146};
      std::vector<float> picked(places.size());
      matmulElements(test.problem, {test.weight.data()}, test.input.data(), places, picked, 1,
                     precision);
      for (size_t i = 0; i < places.size(); ++i)
        EXPECT_EQ(picked[i], whole[size_t(places[i])]) << numericsName(numerics) << " " << i;
    }
}

TEST(Numerics, AttentionRoundsWhatItMultiplies) {
  // One head of two dimensions, two keys: scores 0 and -1, so shares 1 and 1/e.
  const float x = 1 + 0x1p-12f; // 1 in f16
  std::vector<float> query = {x, 0}, keys = {0, x, -1, 0}, values = {x, 0, 0, x}, out(2);
  auto view = [](std::vector<float> &cache) {
    return CacheView{ElementType::F32, reinterpret_cast<std::byte *>(cache.data()), 1, 2, 0};
  };
  const std::vector<int32_t> zero = {0}, last = {1}, length = {2};
  AttentionInputs in;
  in.query = denseRows(query.data(), 1, 2);
  in.keys = view(keys);
  in.values = view(values);
  in.positions = last;
  in.sequences = in.table = zero;
  in.lengths = length;
  in.heads = 1;
  in.numerics = Numerics::F16;
  const double share = std::exp(-1.0), total = 1 + share, exactShare = std::exp(-double(x));
  attention(in, denseRows(out.data(), 1, 2), Precision::Wide);
  EXPECT_FLOAT_EQ(out[0], static_cast<float>(1 / total));
  EXPECT_FLOAT_EQ(out[1], static_cast<float>(double(half(float(share))) / total));
  EXPECT_NE(out[1], static_cast<float>(share / total));
  // The same in pages of one position, which lie the other way round.
  std::vector<float> pagedKeys = {-1, 0, 0, x}, pagedValues = {0, x, x, 0}, paged(2);
  const std::vector<int32_t> pages = {1, 0};
  AttentionInputs other = in;
  other.keys = view(pagedKeys);
  other.values = view(pagedValues);
  other.keys.page = other.values.page = 1;
  other.table = pages;
  other.tableWidth = 2;
  attention(other, denseRows(paged.data(), 1, 2), Precision::Wide);
  EXPECT_EQ(paged, out);
  attention(in, denseRows(out.data(), 1, 2), Precision::Exact);
  EXPECT_FLOAT_EQ(out[0], static_cast<float>(double(x) / (1 + exactShare)));
  EXPECT_FLOAT_EQ(out[1], static_cast<float>(double(x) * exactShare / (1 + exactShare)));
}

TEST(Numerics, WholeNumbersAskForQuantizedWeights) {
  const MatmulProblem plain{1, 2, 32, ElementType::F16, false, {}, Numerics::I8};
  ASSERT_FALSE(checkProblem(plain));
  EXPECT_NE(checkProblem(plain).error().why.find("f16 weights"), std::string::npos);
  MatmulProblem quantized = plain;
  quantized.weights = ElementType::Q4_0;
  EXPECT_TRUE(checkProblem(quantized));
  EXPECT_EQ(quantized.name(), "matmul_1x2x32_q4_0_as_i8");
}
