// Matmuls and attentions whose numerics round what they multiply: a kernel that does what they say
// is right, in whatever way it gets there, and one with a fault is not.
#include "kernelforge/eval/Fidelity.h"

#include "kernelforge/kernels/ReferenceMatmul.h"
#include "tests/unit/kernels/Normals.h"

#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

using namespace kernelforge;
using reference::Precision;

namespace {

float half(float x) { return halfToFloat(floatToHalf(x)); }

/// What a kernel may do wrong.
enum class Fault {
  None,
  BlockScale, ///< one block of each row has twice its scale
  LowPlane,   ///< the low plane is left out
  HalfSums    ///< sums are kept in f16
};

/// A matmul as GPU kernels do it: each in its own order and with its own way to round, in f32.
class Kernel {
public:
  explicit Kernel(const MatmulProblem &problem)
      : problem(problem), input(normals(problem.m * problem.k, 1)), weight(problem.weightBytes()) {
    const std::vector<float> values = normals(problem.n * problem.k, 2);
    quantizeRow(problem.weights, values.data(), values.size(), weight.data());
    expanded.resize(values.size());
    dequantizeRow(problem.weights, weight.data(), values.size(), expanded.data());
  }

  Accuracy judge(Fault fault) const {
    auto right = SampledMatmul::create(problem, {weight.data()}, input.data(), 1, 2);
    EXPECT_TRUE(right);
    std::vector<float> out(static_cast<size_t>(problem.m * problem.n));
    for (int64_t r = 0; r < problem.m; ++r) {
      const std::vector<float> row = rounded(input.data() + r * problem.k, fault);
      for (int64_t c = 0; c < problem.n; ++c)
        out[static_cast<size_t>(r * problem.n + c)] = dot(row, c, fault);
    }
    return right->judge(out);
  }

private:
  std::vector<float> rounded(const float *x, Fault fault) const {
    std::vector<float> row(x, x + problem.k);
    if (problem.numerics == Numerics::F16) {
      for (float &value : row)
        value = half(value);
      return row;
    }
    const float limit = problem.numerics == Numerics::I8 ? 127 : 32512;
    for (int64_t begin = 0; begin < problem.k; begin += 32) {
      float largest = 0;
      for (int64_t i = begin; i < begin + 32; ++i)
        largest = std::max(largest, std::fabs(row[size_t(i)]));
      const float inverse = limit / largest; // another flip of a quant than by division
      for (int64_t i = begin; i < begin + 32; ++i) {
        float q = std::round(row[size_t(i)] * inverse);
        if (fault == Fault::LowPlane)
          q = 256 * std::floor((q + 128) / 256);
        row[size_t(i)] = q * (largest / limit);
        if (fault == Fault::BlockScale && begin == 32)
          row[size_t(i)] *= 2;
      }
    }
    return row;
  }

  float dot(const std::vector<float> &row, int64_t column, Fault fault) const {
    float lanes[8] = {};
    for (int64_t i = 0; i < problem.k; ++i) {
      const float w = expanded[size_t(column * problem.k + i)];
      float &lane = lanes[i / 4 % 8];
      lane += row[size_t(i)] * (problem.numerics == Numerics::F16 ? half(w) : w);
      if (fault == Fault::HalfSums)
        lane = half(lane);
    }
    float sum = 0;
    for (float lane : lanes)
      sum = fault == Fault::HalfSums ? half(sum + lane) : sum + lane;
    return sum;
  }

  MatmulProblem problem;
  std::vector<float> input, expanded;
  std::vector<std::byte> weight;
};

MatmulProblem problemOf(int64_t m, int64_t k, ElementType type, Numerics numerics) {
  return {m, 64, k, type, false, {}, numerics};
}

} // namespace

TEST(NumericsFaults, RightKernelsAreRight) {
  for (int64_t m : {1, 5})
    for (int64_t k : {256, 4096}) {
      for (ElementType type : {ElementType::F32, ElementType::F16, ElementType::Q4_0}) {
        const Accuracy verdict = Kernel(problemOf(m, k, type, Numerics::F16)).judge(Fault::None);
        EXPECT_TRUE(verdict.pass) << m << " " << k << ", f16: " << verdict.why;
      }
      for (ElementType type :
           {ElementType::Q8_0, ElementType::Q4_1, ElementType::Q4_K, ElementType::Q6_K})
        for (Numerics numerics : {Numerics::I8, Numerics::I8x2}) {
          const Accuracy verdict = Kernel(problemOf(m, k, type, numerics)).judge(Fault::None);
          EXPECT_TRUE(verdict.pass)
              << m << " " << k << ", " << numericsName(numerics) << ": " << verdict.why;
        }
    }
}

TEST(NumericsFaults, WrongKernelsAreWrong) {
  const auto isRight = [](Numerics numerics, ElementType type, int64_t m, Fault fault) {
    return Kernel(problemOf(m, 4096, type, numerics)).judge(fault).pass;
  };
  for (int64_t m : {1, 5})
    for (ElementType type : {ElementType::Q8_0, ElementType::Q4_1, ElementType::Q4_K}) {
      EXPECT_FALSE(isRight(Numerics::I8, type, m, Fault::BlockScale)) << m;
      EXPECT_FALSE(isRight(Numerics::I8x2, type, m, Fault::BlockScale)) << m;
      EXPECT_FALSE(isRight(Numerics::I8x2, type, m, Fault::LowPlane)) << m;
      EXPECT_FALSE(isRight(Numerics::F16, type, m, Fault::HalfSums)) << m;
    }
  EXPECT_FALSE(isRight(Numerics::F16, ElementType::F16, 5, Fault::HalfSums));
}

TEST(NumericsFaults, FinerNumericsAreJudgedByTheirOwnRounding) {
  // A kernel of 8 bits where 16 were asked for, and one of f16 where f32 was.
  const MatmulProblem asked = problemOf(3, 1024, ElementType::Q8_0, Numerics::I8x2);
  const std::vector<float> input = normals(asked.m * asked.k, 3),
                           values = normals(asked.n * asked.k, 4);
  std::vector<std::byte> weight(asked.weightBytes());
  quantizeRow(asked.weights, values.data(), values.size(), weight.data());
  const auto judged = [&](Numerics of, Numerics by) {
    MatmulProblem problem = asked;
    problem.numerics = of;
    auto right = SampledMatmul::create(problem, {weight.data()}, input.data(), 1, 2);
    problem.numerics = by;
    std::vector<float> out(static_cast<size_t>(problem.m * problem.n));
    reference::matmulProblem(problem, {weight.data()}, input.data(), out.data(), 2,
                             Precision::Plain);
    return right->judge(out).pass;
  };
  EXPECT_FALSE(judged(Numerics::I8x2, Numerics::I8));
  EXPECT_FALSE(judged(Numerics::F32, Numerics::F16));
  EXPECT_FALSE(judged(Numerics::F32, Numerics::I8x2));
  EXPECT_TRUE(judged(Numerics::I8, Numerics::I8x2));
  EXPECT_TRUE(judged(Numerics::F16, Numerics::F32));
}
