// Sampled elements are those of the whole result, the edges are among them, and a wrong one is
// named by its place.
#include "kernelforge/eval/Fidelity.h"
#include "kernelforge/kernels/ReferenceMatmul.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include <utility>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using reference::Precision;
using testing::HasSubstr;

namespace {

struct Operands {
  explicit Operands(const MatmulProblem &problem)
      : problem(problem), input(numbers(problem.m * problem.k)), bias(numbers(problem.n)),
        residual(numbers(problem.has(EpilogueStep::Residual) ? problem.m * problem.n : 0)) {
    const std::vector<float> values = numbers(problem.n * problem.k);
    const ElementTypeInfo &t = info(problem.weights);
    weight.resize(values.size() / static_cast<size_t>(t.blockElements) *
                  static_cast<size_t>(t.blockBytes));
    quantizeRow(problem.weights, values.data(), values.size(), weight.data());
  }

  MatmulOperands get() const { return {weight.data(), bias.data(), residual.data()}; }

  std::vector<float> result(Precision precision) const {
    std::vector<float> out(static_cast<size_t>(problem.m * problem.n));
    reference::matmulProblem(problem, get(), input.data(), out.data(), 2, precision);
    return out;
  }

  std::vector<float> numbers(int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float &x : values)
      x = static_cast<float>(random()) * 0x1p-31f - 1.0f;
    return values;
  }

  std::mt19937 random{7};
  MatmulProblem problem;
  std::vector<float> input, bias, residual;
  std::vector<std::byte> weight;
};

TEST(SampledMatmul, ElementsHaveTheBitsOfTheWhole) {
  using enum EpilogueStep;
  for (const MatmulProblem &problem :
       {MatmulProblem{150, 90, 37}, MatmulProblem{90, 150, 64, ElementType::Q4_1, false, {Bias}},
        MatmulProblem{120, 77, 41, ElementType::BF16, true, {Bias, Silu, Residual}},
        MatmulProblem{1, 300, 512, ElementType::Q4_K, false, {Residual, GeluTanh}},
        MatmulProblem{300, 1, 33}}) {
    SCOPED_TRACE(problem.name());
    const Operands operands(problem);
    auto sampled =
        SampledMatmul::createSampled(problem, operands.get(), operands.input.data(), 3, 2);
    ASSERT_TRUE(sampled) << sampled.error().line();
    const auto wide = operands.result(Precision::Wide), plain = operands.result(Precision::Plain);
    EXPECT_NE(wide, plain);
    ASSERT_FALSE(sampled->indices().empty());
    for (size_t i = 0; i < sampled->indices().size(); ++i) {
      const auto at = static_cast<size_t>(sampled->indices()[i]);
      ASSERT_EQ(sampled->reference()[i], wide[at]) << at;
      ASSERT_EQ(sampled->plain()[i], plain[at]) << at;
    }
    auto whole = SampledMatmul::create(problem, operands.get(), operands.input.data(), 3, 2);
    ASSERT_TRUE(whole);
    EXPECT_TRUE(whole->indices().empty());
    EXPECT_TRUE(std::ranges::equal(whole->reference(), wide));
    EXPECT_TRUE(std::ranges::equal(whole->plain(), plain));
  }
}

TEST(SampledMatmul, LooksAtTheEdgesAndNamesAWrongElement) {
  const MatmulProblem problem{400, 300, 24};
  const Operands operands(problem);
  auto sampled = SampledMatmul::createSampled(problem, operands.get(), operands.input.data(), 1, 2);
  auto other = SampledMatmul::createSampled(problem, operands.get(), operands.input.data(), 2, 2);
  ASSERT_TRUE(sampled && other);
  EXPECT_FALSE(std::ranges::equal(sampled->indices(), other->indices()));
  std::vector<float> out = operands.result(Precision::Plain);
  const Accuracy right = sampled->judge(out);
  EXPECT_TRUE(right.pass) << right.why;
  EXPECT_EQ(right.outputs, 400 * 300);
  EXPECT_EQ(right.checked, static_cast<int64_t>(sampled->indices().size()));
  EXPECT_GT(right.checked, 4096);
  // All of the first and last row and column, whatever is drawn.
  auto isSampled = [&](int64_t row, int64_t column) {
    return std::ranges::binary_search(sampled->indices(), row * 300 + column);
  };
  for (int64_t column = 0; column < 300; ++column)
    EXPECT_TRUE(isSampled(0, column) && isSampled(399, column)) << column;
  for (int64_t row = 0; row < 400; ++row)
    EXPECT_TRUE(isSampled(row, 0) && isSampled(row, 299)) << row;
  for (const auto [row, column] : {std::pair(0, 0), {0, 150}, {399, 299}, {200, 299}, {200, 0}}) {
    float &element = out[static_cast<size_t>(row * 300 + column)];
    const float before = std::exchange(element, element + 0.01f);
    const Accuracy wrong = sampled->judge(out);
    EXPECT_FALSE(wrong.pass);
    EXPECT_EQ(wrong.worst, row * 300 + column);
    EXPECT_THAT(wrong.why, HasSubstr(fmt::format("row {}, column {} (element {}) is ", row, column,
                                                 row * 300 + column)));
    element = before;
  }
}

TEST(SampledMatmul, TakesASampleBeyondWhatIsComparedWhole) {
  const MatmulProblem problem{600, 1000, 4000};
  const Operands operands(problem);
  auto sampled = SampledMatmul::create(problem, operands.get(), operands.input.data(), 1, 2);
  ASSERT_TRUE(sampled) << sampled.error().line();
  EXPECT_FALSE(sampled->indices().empty());
  EXPECT_LE(sampled->indices().size(), 4096u + 2 * (600 + 1000));
  // Values that are not sampled are not compared,
  std::vector<float> out(600 * 1000, 0.25F);
  for (size_t i = 0; i < sampled->indices().size(); ++i)
    out[static_cast<size_t>(sampled->indices()[i])] = sampled->plain()[i];
  EXPECT_TRUE(sampled->judge(out).pass);
  // but they have to be some.
  int64_t between = 300 * 1000 + 500;
  while (std::ranges::binary_search(sampled->indices(), between))
    ++between;
  float &element = out[static_cast<size_t>(between)];
  element = std::numeric_limits<float>::quiet_NaN();
  Accuracy wrong = sampled->judge(out);
  EXPECT_FALSE(wrong.pass);
  EXPECT_EQ(wrong.nan, 1);
  EXPECT_EQ(wrong.poisonedLeft, 0);
  EXPECT_EQ(wrong.worst, between);
  EXPECT_THAT(wrong.why, HasSubstr(fmt::format("(element {}) is nan", between)));
  poison({&element, 1});
  wrong = sampled->judge(out);
  EXPECT_FALSE(wrong.pass);
  EXPECT_EQ(wrong.poisonedLeft, 1);
  EXPECT_EQ(wrong.why, "1 of 600000 elements were not written");
}

TEST(SampledMatmul, RefusesProblemsThatAreNone) {
  const float value = 0;
  auto refused = SampledMatmul::create({1, 1, 33, ElementType::Q8_0}, {}, &value, 1, 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::Unusable);
}

} // namespace
