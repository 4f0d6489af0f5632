// The innermost loops of every level that this processor has, against plain ones.
#include "kernelforge/kernels/TileKernels.h"

#include <gtest/gtest.h>
#include <random>
#include <vector>

namespace kernelforge {
namespace {

class TileKernelsTest : public testing::TestWithParam<VectorLevel> {
protected:
  void SetUp() override {
    if (GetParam() > vectorLevel())
      GTEST_SKIP() << "this processor does not have the instructions";
  }

  std::vector<float> numbers(int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float &value : values) // small integers: sums are exact in any order
      value = static_cast<float>(static_cast<int>(random() % 17) - 8);
    return values;
  }

  std::mt19937 random{1};
};

TEST_P(TileKernelsTest, MultipliesTiles) {
  const TileKernels &kernels = tileKernels(GetParam());
  const int64_t n = kernels.columns, stride = n + 3;
  for (int64_t k : {1, 2, 37})
    for (int64_t rows = 1; rows <= tileRows; ++rows)
      for (bool add : {false, true}) {
        const std::vector<float> a = numbers(k * tileRows), b = numbers(k * n);
        std::vector<float> c = numbers(tileRows * stride), expected = c;
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t j = 0; j < n; ++j) {
            float sum = add ? expected[r * stride + j] : 0.0f;
            for (int64_t i = 0; i < k; ++i)
              sum += a[i * tileRows + r] * b[i * n + j];
            expected[r * stride + j] = sum;
          }
        kernels.tile(rows, k, a.data(), b.data(), c.data(), stride, add);
        ASSERT_EQ(c, expected) << rows << " rows, k " << k << ", add " << add;
      }
}

TEST_P(TileKernelsTest, Transposes) {
  for (int64_t rows = 1; rows <= 8; ++rows)
    for (int64_t k : {1, 7, 8, 29}) {
      const int64_t from = k + 1, to = 11;
      const std::vector<float> in = numbers(rows * from);
      std::vector<float> out = numbers(k * to), expected = out;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < k; ++i)
          expected[i * to + r] = in[r * from + i];
      tileKernels(GetParam()).transpose(rows, k, in.data(), from, out.data(), to);
      ASSERT_EQ(out, expected) << rows << " rows of " << k;
    }
}

TEST_P(TileKernelsTest, TakesDotProducts) {
  for (int64_t k : {1, 15, 16, 83}) {
    const std::vector<float> x = numbers(k), rows = numbers(dotRows * (k + 5));
    std::vector<float> sums(dotRows), expected(dotRows);
    for (int64_t r = 0; r < dotRows; ++r)
      for (int64_t i = 0; i < k; ++i)
        expected[r] += x[i] * rows[r * (k + 5) + i];
    tileKernels(GetParam()).dot(k, x.data(), rows.data(), k + 5, sums.data());
    ASSERT_EQ(sums, expected) << k;
  }
}

INSTANTIATE_TEST_SUITE_P(All, TileKernelsTest,
                         testing::Values(VectorLevel::Portable, VectorLevel::Avx2,
                                         VectorLevel::Avx512),
                         [](const auto &test) {
                           switch (test.param) {
                           case VectorLevel::Avx2:
                             return "avx2";
                           case VectorLevel::Avx512:
                             return "avx512";
                           case VectorLevel::Portable:
                             break;
                           }
                           return "portable";
                         });

} // namespace
} // namespace kernelforge
