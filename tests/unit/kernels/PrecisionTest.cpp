// What the two precisions of the reference operations mean, bit for bit: whatever loops and vectors
// compute them, the order of the sums is this.
#include "kernelforge/kernels/Reference.h"
#include "tests/unit/kernels/Normals.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

using namespace kernelforge;
using namespace kernelforge::reference;

namespace {

/// Eight partial sums over the multiples of eight, then the tail and each of them.
float wideDot(const float *a, const float *b, int64_t n) {
  double sums[8] = {}, sum = 0;
  const int64_t whole = n / 8 * 8;
  for (int64_t i = 0; i < whole; ++i)
    sums[i % 8] += double(a[i]) * double(b[i]);
  for (int64_t i = whole; i < n; ++i)
    sum += double(a[i]) * double(b[i]);
  for (double partial : sums)
    sum += partial;
  return static_cast<float>(sum);
}

/// Term after term, each product and each sum rounded to f32.
float plainDot(const float *a, const float *b, int64_t n) {
  volatile float sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    volatile float product = a[i] * b[i];
    sum = sum + product;
  }
  return sum;
}

TEST(Precision, SumsHaveTheirOrderInEveryTile) {
  for (auto [m, n, k] : {std::tuple(1, 1, 1),
                         {1, 19, 7},
                         {3, 5, 8},
                         {4, 16, 64},
                         {5, 17, 129},
                         {9, 35, 100},
                         {70, 33, 1000},
                         {66, 3, 31}})
    for (bool transpose : {false, true}) {
      const std::vector<float> x = normals(m * k, 1), w = normals(n * k, 2), bias = normals(n, 3);
      std::vector<float> columns(w);
      if (transpose)
        for (int c = 0; c < n; ++c)
          for (int i = 0; i < k; ++i)
            columns[size_t(c * k + i)] = w[size_t(i * n + c)];
      const WeightView weight{ElementType::F32, reinterpret_cast<const std::byte *>(w.data()),
                              transpose ? k : n, transpose ? n : k, WeightLayout::RowMajor};
      for (Precision precision : {Precision::Wide, Precision::Plain}) {
        const bool wide = precision == Precision::Wide;
        std::vector<float> out(size_t(m * n)), biased(out);
        const Rows input = denseRows(x.data(), m, k);
        matmul(input, weight, transpose, {}, denseRows(out.data(), m, n), precision);
        matmul(input, weight, transpose, bias, denseRows(biased.data(), m, n), precision);
        for (int r = 0; r < m; ++r)
          for (int c = 0; c < n; ++c) {
            const float *a = x.data() + r * k, *b = columns.data() + c * k;
            const float expected = wide ? wideDot(a, b, k) : plainDot(a, b, k);
            const float is = out[size_t(r * n + c)];
            ASSERT_EQ(is, expected) << m << " " << n << " " << k << ", " << r << " " << c;
            ASSERT_EQ(dotProduct(a, b, k, precision), expected);
            if (!wide)
              ASSERT_EQ(biased[size_t(r * n + c)], expected + bias[size_t(c)]);
          }
      }
    }
}

TEST(Precision, PlainOperationsAreNearWideOnesAndNotTheSame) {
  const int64_t rows = 20, width = 96;
  const std::vector<float> x = normals(rows * width, 4), a = normals(width, 5),
                           b = normals(width, 6);
  const Rows input = denseRows(x.data(), rows, width);
  const std::vector<int32_t> positions(size_t(rows), 1);
  const auto compare = [&](const char *name, const auto &operation) {
    std::vector<float> wide(x.size()), plain(x.size());
    operation(denseRows(wide.data(), rows, width), Precision::Wide);
    operation(denseRows(plain.data(), rows, width), Precision::Plain);
    double furthest = 0;
    for (size_t i = 0; i < wide.size(); ++i)
      furthest = std::max(furthest, std::abs(double(wide[i]) - double(plain[i])));
    EXPECT_GT(furthest, 0) << name;
    EXPECT_LT(furthest, 2e-5) << name;
  };
  compare("rms_norm", [&](auto out, auto p) { rmsNorm(input, a, 1e-5, out, p); });
  compare("layer_norm", [&](auto out, auto p) { layerNorm(input, a, b, 1e-5, out, p); });
  compare("softmax", [&](auto out, auto p) { softmax(input, out, p); });
  compare("silu", [&](auto out, auto p) { activation(input, ActivationKind::Silu, out, p); });
  compare("gelu", [&](auto out, auto p) { activation(input, ActivationKind::Gelu, out, p); });
  compare("gelu_tanh",
          [&](auto out, auto p) { activation(input, ActivationKind::GeluTanh, out, p); });
  compare("scale", [&](auto out, auto p) { scale(input, 0.1, 3.0, out, p); });
  compare("rope", [&](auto out, auto p) {
    rope(input, positions, input, 96, RopePairing::HalfSplit, out, p);
  });
  compare("attention", [&](auto out, auto p) {
    std::vector<float> keys = normals(rows * 48, 7), values = normals(rows * 48, 8);
    auto view = [](std::vector<float> &cache) {
      return CacheView{ElementType::F32, reinterpret_cast<std::byte *>(cache.data()), 1, 48, 0};
    };
    const std::vector<int32_t> zeros(size_t(rows), 0), last(size_t(rows), 19);
    AttentionInputs in;
    in.query = input;
    in.keys = view(keys);
    in.values = view(values);
    in.positions = last;
    in.sequences = in.table = in.lengths = zeros;
    in.heads = 2;
    in.scale = 0.3;
    attention(in, out, p);
  });
}

} // namespace
