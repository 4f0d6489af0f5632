// The reference semantics against formulas written down again in long double, and known values.
#include "kernelforge/kernels/Reference.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <numbers>
#include <random>
#include <string>
#include <vector>

namespace kernelforge::reference {
namespace {

using Wide = long double;

/// Values of both signs, [rows, width], that are told apart from a poisoned result.
struct Matrix {
  Matrix(int64_t rows, int64_t width) : rows(rows), width(width), values(rows * width, NAN) {}
  static Matrix random(int64_t rows, int64_t width, unsigned seed, float size = 1.0f) {
    Matrix matrix(rows, width);
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0f, size);
    for (float &value : matrix.values)
      value = normal(random);
    return matrix;
  }
  Wide at(int64_t r, int64_t i) const { return values[r * width + i]; }
  operator Rows() const { return denseRows(values.data(), rows, width); }
  operator MutableRows() { return denseRows(values.data(), rows, width); }

  int64_t rows, width;
  std::vector<float> values;
};

/// One rounding to f32 and the error of an f64 sum, no more.
void expectNear(float actual, Wide expected, const std::string &where) {
  const Wide tolerance = std::max<Wide>(std::fabs(expected) * 6.1e-8L, 1e-13L);
  EXPECT_LE(std::fabs(static_cast<Wide>(actual) - expected), tolerance)
      << where << ": " << actual << " instead of " << static_cast<double>(expected);
}

template <typename Expected> void expectAll(const Matrix &actual, const Expected &expected) {
  for (int64_t r = 0; r < actual.rows; ++r)
    for (int64_t i = 0; i < actual.width; ++i) {
      const float value = actual.values[r * actual.width + i];
      ASSERT_FALSE(std::isnan(value)) << "row " << r << ", column " << i << " was not written";
      expectNear(value, expected(r, i),
                 "row " + std::to_string(r) + ", column " + std::to_string(i));
      if (testing::Test::HasFailure())
        return;
    }
}

//===----------------------------------------------------------------------===//
// Matmul and mlp
//===----------------------------------------------------------------------===//

struct MatmulCase {
  ElementType type;
  int64_t m, n, k;
  bool interleaved, transpose, bias;
};

std::string matmulName(const testing::TestParamInfo<MatmulCase> &test) {
  const MatmulCase &c = test.param;
  return std::string(info(c.type).name) + "_" + std::to_string(c.m) + "x" + std::to_string(c.n) +
         "x" + std::to_string(c.k) + (c.interleaved ? "_interleaved" : "") +
         (c.transpose ? "_transposed" : "");
}

class Matmul : public testing::TestWithParam<MatmulCase> {};

TEST_P(Matmul, IsTheSumOfProducts) {
  const auto [type, m, n, k, interleaved, transpose, bias] = GetParam();
  const Matrix input = Matrix::random(m, k, 1), source = Matrix::random(n, k, 2);
  const Matrix biases = Matrix::random(1, n, 3);

  // The weight's bytes, and the values that they stand for as [n, k].
  const int64_t rows = transpose ? k : n, width = transpose ? n : k;
  const size_t bytesOfRow = *rowBytes(type, width);
  std::vector<std::byte> bytes(rows * bytesOfRow), packed((rows + 15) / 16 * 16 * bytesOfRow);
  Matrix stored(rows, width), weight(n, k);
  for (int64_t r = 0; r < rows; ++r) {
    quantizeRow(type, source.values.data() + r * width, width, bytes.data() + r * bytesOfRow);
    dequantizeRow(type, bytes.data() + r * bytesOfRow, width, stored.values.data() + r * width);
  }
  for (int64_t c = 0; c < n; ++c)
    for (int64_t i = 0; i < k; ++i)
      weight.values[c * k + i] = stored.values[transpose ? i * n + c : c * k + i];
  packInterleaved(type, bytes.data(), rows, width, packed.data());

  Matrix out(m, n);
  WeightView view{type, interleaved ? packed.data() : bytes.data(), rows, width,
                  interleaved ? WeightLayout::Interleaved : WeightLayout::RowMajor};
  matmul(input, view, transpose, bias ? biases.values : std::span<const float>(), out);
  for (int64_t r = 0; r < m; ++r)
    for (int64_t c = 0; c < n; ++c) {
      Wide sum = bias ? biases.at(0, c) : 0, magnitude = std::fabs(sum);
      for (int64_t i = 0; i < k; ++i) {
        sum += input.at(r, i) * weight.at(c, i);
        magnitude += std::fabs(input.at(r, i) * weight.at(c, i));
      }
      ASSERT_LE(std::fabs(out.values[r * n + c] - sum),
                std::fabs(sum) * 6.1e-8L + magnitude * 1e-14L)
          << "row " << r << ", column " << c;
    }
}

INSTANTIATE_TEST_SUITE_P(
    Reference, Matmul,
    testing::Values(MatmulCase{ElementType::F32, 1, 1, 1, false, false, false},
                    MatmulCase{ElementType::F32, 3, 17, 13, false, false, true},
                    MatmulCase{ElementType::F32, 3, 17, 13, true, false, true},
                    MatmulCase{ElementType::F32, 5, 19, 7, false, true, true},
                    MatmulCase{ElementType::F16, 2, 33, 31, true, false, false},
                    MatmulCase{ElementType::F16, 2, 33, 31, false, true, false},
                    MatmulCase{ElementType::BF16, 2, 5, 9, false, true, false},
                    MatmulCase{ElementType::BF16, 2, 16, 9, false, false, false},
                    MatmulCase{ElementType::Q4_0, 3, 7, 64, false, false, true},
                    MatmulCase{ElementType::Q4_0, 3, 18, 96, true, false, false},
                    MatmulCase{ElementType::Q4_1, 1, 31, 160, false, false, false},
                    MatmulCase{ElementType::Q4_1, 4, 31, 160, true, false, true},
                    MatmulCase{ElementType::Q5_0, 3, 18, 96, true, false, false},
                    MatmulCase{ElementType::Q5_1, 3, 18, 96, true, false, false},
                    MatmulCase{ElementType::Q4_K, 2, 17, 512, false, false, false},
                    MatmulCase{ElementType::Q5_K, 2, 17, 512, false, false, false},
                    MatmulCase{ElementType::Q2_K, 2, 17, 512, false, false, false},
                    MatmulCase{ElementType::Q3_K, 2, 17, 512, false, false, true},
                    MatmulCase{ElementType::IQ4_NL, 2, 17, 96, false, false, false},
                    MatmulCase{ElementType::IQ4_XS, 2, 17, 256, true, false, false},
                    MatmulCase{ElementType::MXFP4, 2, 17, 160, false, false, true},
                    MatmulCase{ElementType::F8_E4M3, 2, 17, 384, false, false, false},
                    MatmulCase{ElementType::Q6_K, 2, 17, 256, true, false, true},
                    MatmulCase{ElementType::Q8_0, 2, 3, 32, false, false, false},
                    MatmulCase{ElementType::Q8_0, 2, 20, 320, true, false, false}),
    matmulName);

TEST(Reference, MatmulCancelsWithoutLoss) {
  // f32 sums would give 0: the large terms cancel and leave the small one.
  const std::vector<float> x = {1e8f, 1.0f, -1e8f, 3.0f}, w = {1.0f, 0.125f, 1.0f, 0.0f};
  float out = NAN;
  matmul(denseRows(x.data(), 1, 4),
         {ElementType::F32, reinterpret_cast<const std::byte *>(w.data()), 1, 4}, false, {},
         denseRows(&out, 1, 1));
  EXPECT_EQ(out, 0.125f);
}

TEST(Reference, MatmulReadsRowsByTheirStride) {
  const std::vector<float> x = {1, 2, NAN, 3, 4, NAN}, w = {1, 10};
  std::vector<float> out(4, -7.0f);
  matmul(Rows{x.data(), 2, 2, 3},
         {ElementType::F32, reinterpret_cast<const std::byte *>(w.data()), 1, 2}, false, {},
         MutableRows{out.data(), 2, 1, 2});
  EXPECT_EQ(out, (std::vector<float>{21, -7, 43, -7}));
}

WeightView f32Weight(const Matrix &matrix) {
  return {ElementType::F32, reinterpret_cast<const std::byte *>(matrix.values.data()), matrix.rows,
          matrix.width};
}

TEST(Reference, MlpIsItsOperations) {
  const Matrix x = Matrix::random(3, 6, 1), gate = Matrix::random(11, 6, 2),
               up = Matrix::random(11, 6, 3), down = Matrix::random(5, 11, 4),
               gateBias = Matrix::random(1, 11, 5), upBias = Matrix::random(1, 11, 6),
               downBias = Matrix::random(1, 5, 7);
  for (bool gated : {false, true}) {
    MlpWeights weights{gated ? f32Weight(gate) : WeightView{},
                       f32Weight(up),
                       f32Weight(down),
                       {},
                       upBias.values,
                       downBias.values,
                       ActivationKind::Gelu};
    if (gated)
      weights.gateBias = gateBias.values;
    Matrix out(3, 5), hidden(3, 11), gates(3, 11), expected(3, 5);
    mlp(x, weights, out);
    matmul(x, f32Weight(up), false, upBias.values, hidden);
    if (gated) {
      matmul(x, f32Weight(gate), false, gateBias.values, gates);
      activation(gates, ActivationKind::Gelu, gates);
      mul(gates, hidden, hidden);
    } else {
      activation(hidden, ActivationKind::Gelu, hidden);
    }
    matmul(hidden, f32Weight(down), false, downBias.values, expected);
    EXPECT_EQ(out.values, expected.values);
  }
}

//===----------------------------------------------------------------------===//
// Attention and its cache
//===----------------------------------------------------------------------===//

/// Rows of two sequences over caches of garbage, filled where they should be read.
class Attention : public testing::Test {
protected:
  static constexpr int64_t heads = 6, kvHeads = 2, dim = 5, valueDim = 3, slots = 64;
  static constexpr std::array<int64_t, 2> length = {9, 4};

  Attention()
      : query(Matrix::random(5, heads * dim, 1)), keys(Matrix::random(13, kvHeads * dim, 2)),
        values(Matrix::random(13, kvHeads * valueDim, 3)), keyCache(slots, kvHeads * dim),
        valueCache(slots, kvHeads * valueDim) {
    inputs.query = query;
    inputs.keys = view(keyCache, dim);
    inputs.values = view(valueCache, valueDim);
    inputs.positions = positions;
    inputs.sequences = sequences;
    inputs.lengths = lengths;
    inputs.heads = heads;
    inputs.scale = 0.4;
    useContiguous();
  }

  CacheView view(Matrix &cache, int64_t width) {
    return {ElementType::F32, reinterpret_cast<std::byte *>(cache.values.data()), kvHeads, width,
            0};
  }

  void useContiguous() {
    table = {30, 7};
    inputs.tableWidth = 1;
    inputs.keys.page = inputs.values.page = 0;
    fill();
  }
  void usePages() {
    table = {5, 0, 9, 3, 7, 11}; // pages of 4 slots; three for each sequence
    inputs.tableWidth = 3;
    inputs.keys.page = inputs.values.page = 4;
    fill();
  }

  /// Appends all keys and values by their slots; all other slots hold NaN.
  void fill() {
    inputs.table = table;
    std::fill(keyCache.values.begin(), keyCache.values.end(), NAN);
    std::fill(valueCache.values.begin(), valueCache.values.end(), NAN);
    std::vector<int32_t> where;
    for (int64_t s = 0; s < 2; ++s)
      for (int64_t p = 0; p < length[s]; ++p)
        where.push_back(static_cast<int32_t>(inputs.slot(s, p)));
    cacheAppend(keys, where, inputs.keys);
    cacheAppend(values, where, inputs.values);
  }

  Matrix run() {
    Matrix out(5, heads * valueDim);
    attention(inputs, out);
    return out;
  }

  /// The definition, over the keys that `sees` admits.
  template <typename Sees> void expectDefinition(const Sees &sees) {
    expectAll(run(), [&](int64_t r, int64_t column) -> Wide {
      const int64_t h = column / valueDim, i = column % valueDim, kv = h / (heads / kvHeads);
      const int64_t s = sequences[r], base = s == 0 ? 0 : length[0];
      Wide total = 0, sum = 0;
      for (int64_t p = 0; p < length[s]; ++p) {
        if (!sees(positions[r], p))
          continue;
        Wide score = 0;
        for (int64_t j = 0; j < dim; ++j)
          score += query.at(r, h * dim + j) * keys.at(base + p, kv * dim + j);
        score *= inputs.scale;
        if (inputs.softcap > 0)
          score = inputs.softcap * std::tanh(score / inputs.softcap);
        if (total == 0 && !inputs.sinks.empty())
          total = std::exp(Wide(inputs.sinks[h]));
        total += std::exp(score);
        sum += std::exp(score) * values.at(base + p, kv * valueDim + i);
      }
      return total == 0 ? 0 : sum / total;
    });
  }

  std::vector<int32_t> positions = {8, 0, 3, 5, 1}, sequences = {0, 1, 1, 0, 1}, table,
                       lengths = {9, 4};
  Matrix query, keys, values, keyCache, valueCache;
  AttentionInputs inputs;
};

TEST_F(Attention, CausalRowsSeeTheirPast) {
  expectDefinition([](int64_t own, int64_t p) { return p <= own; });
}

TEST_F(Attention, OtherRowsSeeTheWholeSequence) {
  inputs.causal = false;
  expectDefinition([](int64_t, int64_t) { return true; });
}

TEST_F(Attention, AWindowIsTheLastPositionsUpToTheOwn) {
  inputs.window = 3;
  expectDefinition([](int64_t own, int64_t p) { return p <= own && p > own - 3; });
  inputs.causal = false;
  expectDefinition([](int64_t own, int64_t p) { return p <= own && p > own - 3; });
}

TEST_F(Attention, ScoresAreSoftCapped) {
  inputs.softcap = 0.7;
  expectDefinition([](int64_t own, int64_t p) { return p <= own; });
}

TEST_F(Attention, SinksTakeTheirShareAndGiveNothing) {
  const Matrix sinks = Matrix::random(1, heads, 9);
  inputs.sinks = sinks.values;
  inputs.softcap = 0.7; // not of the sinks
  positions[2] = -1;    // sees nothing: 0, not NaN
  expectDefinition([](int64_t own, int64_t p) { return p <= own; });
}

TEST_F(Attention, PagesGiveWhatContiguousSlotsGive) {
  const Matrix contiguous = run();
  usePages();
  EXPECT_EQ(run().values, contiguous.values);
  inputs.window = 2;
  const Matrix paged = run();
  useContiguous();
  EXPECT_EQ(run().values, paged.values);
}

TEST_F(Attention, ARowThatSeesNothingIsZero) {
  positions[2] = -1;
  const Matrix out = run();
  for (int64_t i = 0; i < out.width; ++i)
    EXPECT_EQ(out.at(2, i), 0.0L);
  EXPECT_NE(out.at(3, 0), 0.0L);
}

TEST_F(Attention, LargeScoresDoNotOverflow) {
  inputs.scale = 1e4;
  for (float value : run().values)
    EXPECT_TRUE(std::isfinite(value));
}

TEST(Reference, CacheAppendConvertsAndPassesOverNegativeSlots) {
  const std::vector<float> rows = {1.0f, 2.5f, 3.0f, 4.0f, 5.0f, 1.0f / 3.0f};
  std::vector<uint16_t> cache(4 * 2, 0x1234);
  cacheAppend(denseRows(rows.data(), 3, 2), std::vector<int32_t>{2, -1, 0},
              {ElementType::F16, reinterpret_cast<std::byte *>(cache.data()), 1, 2, 0});
  EXPECT_EQ(cache, (std::vector<uint16_t>{0x4500, 0x3555, 0x1234, 0x1234, 0x3c00, 0x4100, 0x1234,
                                          0x1234}));
}

TEST(Reference, AttentionReadsQuantizedCaches) {
  // Two heads, one key: the result is its value as a block of q8_0 gives it back.
  std::vector<float> query(64), row(64), expected(64), out(64);
  for (size_t i = 0; i < row.size(); ++i) {
    query[i] = std::cos(static_cast<float>(i));
    row[i] = std::sin(static_cast<float>(i)) * static_cast<float>(1 + i / 32);
  }
  std::vector<std::byte> blocks(2 * 34), keys(3 * 68), values(3 * 68);
  quantizeRow(ElementType::Q8_0, row.data(), row.size(), blocks.data());
  dequantizeRow(ElementType::Q8_0, blocks.data(), row.size(), expected.data());
  const CacheView keyView{ElementType::Q8_0, keys.data(), 2, 32, 0};
  const CacheView valueView{ElementType::Q8_0, values.data(), 2, 32, 0};
  const std::vector<int32_t> zero = {0}, one = {1}, two = {2};
  cacheAppend(denseRows<const float>(query.data(), 1, 64), two, keyView);
  cacheAppend(denseRows<const float>(row.data(), 1, 64), two, valueView);
  attention({.query = denseRows<const float>(query.data(), 1, 64),
             .keys = keyView,
             .values = valueView,
             .positions = zero,
             .sequences = zero,
             .table = two,
             .lengths = one,
             .heads = 2},
            denseRows(out.data(), 1, 64));
  EXPECT_EQ(out, expected);
}

TEST(Reference, AttentionReadsHalfPrecisionCaches) {
  // One key, so that the result is its value: 1/3 in bfloat16.
  const std::vector<float> query = {1.0f, -2.0f}, third = {1.0f / 3.0f, 2.0f};
  std::vector<uint16_t> keys(2), values(2);
  CacheView keyView{ElementType::F16, reinterpret_cast<std::byte *>(keys.data()), 1, 2, 0};
  CacheView valueView{ElementType::BF16, reinterpret_cast<std::byte *>(values.data()), 1, 2, 0};
  const std::vector<int32_t> zero = {0}, one = {1};
  cacheAppend(denseRows(query.data(), 1, 2), zero, keyView);
  cacheAppend(denseRows(third.data(), 1, 2), zero, valueView);
  std::vector<float> out(2);
  attention({.query = denseRows(query.data(), 1, 2),
             .keys = keyView,
             .values = valueView,
             .positions = zero,
             .sequences = zero,
             .table = zero,
             .lengths = one,
             .heads = 1},
            denseRows(out.data(), 1, 2));
  EXPECT_EQ(out, (std::vector<float>{0.333984375f, 2.0f}));
}

//===----------------------------------------------------------------------===//
// Rowwise operations
//===----------------------------------------------------------------------===//

TEST(Reference, EmbeddingScalesRowsOfAQuantizedTable) {
  const Matrix source = Matrix::random(7, 64, 1);
  const size_t bytesOfRow = *rowBytes(ElementType::Q4_1, 64);
  std::vector<std::byte> table(7 * bytesOfRow);
  Matrix stored(7, 64), out(3, 64);
  for (int64_t r = 0; r < 7; ++r) {
    quantizeRow(ElementType::Q4_1, source.values.data() + r * 64, 64, &table[r * bytesOfRow]);
    dequantizeRow(ElementType::Q4_1, &table[r * bytesOfRow], 64, stored.values.data() + r * 64);
  }
  const std::vector<int32_t> ids = {6, 0, 6};
  embedding(ids, {ElementType::Q4_1, table.data(), 7, 64}, 24.0, out);
  expectAll(out, [&](int64_t r, int64_t i) { return stored.at(ids[r], i) * 24; });
}

TEST(Reference, GatherRowsPicks) {
  const Matrix input = Matrix::random(4, 3, 1);
  Matrix out(2, 3);
  gatherRows(input, std::vector<int32_t>{3, 1}, out);
  expectAll(out, [&](int64_t r, int64_t i) { return input.at(r == 0 ? 3 : 1, i); });
}

TEST(Reference, RmsNormDividesByTheRootMeanSquare) {
  const Matrix x = Matrix::random(3, 37, 1), weight = Matrix::random(1, 37, 2);
  for (double offset : {0.0, 1.0}) {
    Matrix out(3, 37);
    rmsNorm(x, weight.values, 1e-3, out, Precision::Wide, offset);
    expectAll(out, [&](int64_t r, int64_t i) {
      Wide squares = 0;
      for (int64_t j = 0; j < 37; ++j)
        squares += x.at(r, j) * x.at(r, j);
      return x.at(r, i) / std::sqrt(squares / 37 + 1e-3) * (offset + weight.at(0, i));
    });
  }
}

TEST(Reference, LayerNormCentresEvenFarFromZero) {
  Matrix x = Matrix::random(3, 37, 1);
  for (float &value : x.values)
    value += 1000.0f;
  const Matrix weight = Matrix::random(1, 37, 2), bias = Matrix::random(1, 37, 3);
  for (bool withBias : {false, true}) {
    Matrix out(3, 37);
    const double offset = withBias ? 0.5 : 0;
    layerNorm(x, weight.values, withBias ? bias.values : std::span<const float>(), 1e-5, out,
              Precision::Wide, offset);
    expectAll(out, [&](int64_t r, int64_t i) {
      Wide mean = 0, variance = 0;
      for (int64_t j = 0; j < 37; ++j)
        mean += x.at(r, j) / 37;
      for (int64_t j = 0; j < 37; ++j)
        variance += (x.at(r, j) - mean) * (x.at(r, j) - mean) / 37;
      return (x.at(r, i) - mean) / std::sqrt(variance + 1e-5) * (offset + weight.at(0, i)) +
             (withBias ? bias.at(0, i) : 0);
    });
  }
}

TEST(Reference, RopeRotatesPairsByBothPairings) {
  constexpr int64_t headDim = 7, rotary = 4, width = 2 * headDim;
  const Matrix x = Matrix::random(3, width, 1);
  Matrix table(6, rotary);
  for (int64_t p = 0; p < 6; ++p)
    for (int64_t i = 0; i < rotary / 2; ++i) {
      const double angle = static_cast<double>(p) * std::pow(10000.0, -2.0 * i / rotary);
      table.values[p * rotary + i] = static_cast<float>(std::cos(angle));
      table.values[p * rotary + rotary / 2 + i] = static_cast<float>(std::sin(angle));
    }
  const std::vector<int32_t> positions = {5, 0, 2};
  for (RopePairing pairing : {RopePairing::HalfSplit, RopePairing::Interleaved}) {
    Matrix out(3, width);
    rope(x, positions, table, headDim, pairing, out);
    expectAll(out, [&](int64_t r, int64_t column) -> Wide {
      const int64_t head = column / headDim * headDim, j = column % headDim;
      if (j >= rotary)
        return x.at(r, column);
      const bool split = pairing == RopePairing::HalfSplit;
      const int64_t pair = split ? j % (rotary / 2) : j / 2;
      const bool second = split ? j >= rotary / 2 : j % 2 == 1;
      const Wide a = x.at(r, head + (split ? pair : 2 * pair));
      const Wide b = x.at(r, head + (split ? pair + rotary / 2 : 2 * pair + 1));
      const Wide cosine = table.at(positions[r], pair);
      const Wide sine = table.at(positions[r], rotary / 2 + pair);
      return second ? a * sine + b * cosine : a * cosine - b * sine;
    });
    // Position 0 rotates by nothing; written in place it is the same.
    for (int64_t i = 0; i < width; ++i)
      EXPECT_EQ(out.at(1, i), x.at(1, i));
    Matrix inPlace = x;
    rope(inPlace, positions, table, headDim, pairing, inPlace);
    EXPECT_EQ(inPlace.values, out.values);
  }
}

TEST(Reference, SoftmaxSumsToOneAndUnderflowsToZero) {
  Matrix x = Matrix::random(2, 19, 1, 3.0f);
  x.values[4] = 90.0f; // the others of row 0 nearly vanish
  x.values[7] = -std::numeric_limits<float>::infinity();
  Matrix out(2, 19);
  softmax(x, out);
  expectAll(out, [&](int64_t r, int64_t i) {
    Wide total = 0;
    for (int64_t j = 0; j < 19; ++j)
      total += std::exp(x.at(r, j) - 90);
    return std::exp(x.at(r, i) - 90) / total;
  });
  EXPECT_EQ(out.at(0, 7), 0.0L);
}

TEST(Reference, ActivationsHaveTheirKnownValues) {
  const std::vector<float> x = {-3.0f, -1.0f, 0.0f, 0.5f, 2.0f};
  auto expectValues = [&](ActivationKind function, std::vector<Wide> expected) {
    std::vector<float> y(x.size(), NAN);
    activation(denseRows(x.data(), 1, 5), function, denseRows(y.data(), 1, 5));
    for (size_t i = 0; i < x.size(); ++i)
      expectNear(y[i], expected[i], "x = " + std::to_string(x[i]));
  };
  expectValues(ActivationKind::Silu, {-0.14227761953270035L, -0.26894142136999512L, 0.0L,
                                      0.31122966560092728L, 1.7615941559557649L});
  expectValues(ActivationKind::Gelu, {-0.00404969409489031L, -0.15865525393145707L, 0.0L,
                                      0.34573123063700656L, 1.9544997361036416L});
  expectValues(ActivationKind::GeluTanh, {-0.00363739208081729L, -0.15880800939172324L, 0.0L,
                                          0.34571400982514394L, 1.9545976940877750L});
  expectValues(ActivationKind::Relu, {0, 0, 0, 0.5L, 2});
}

TEST(Reference, ActivationsKeepNaNAndTheTails) {
  const std::vector<float> x = {NAN, 100.0f, -100.0f, -12.0f, -INFINITY, INFINITY};
  for (ActivationKind function : {ActivationKind::Silu, ActivationKind::Gelu,
                                  ActivationKind::GeluTanh, ActivationKind::Relu}) {
    std::vector<float> y(6, 7.0f);
    activation(denseRows(x.data(), 1, 6), function, denseRows(y.data(), 1, 6));
    EXPECT_TRUE(std::isnan(y[0]));
    EXPECT_EQ(y[4], 0.0f);
    EXPECT_EQ(y[5], INFINITY);
    EXPECT_EQ(y[1], 100.0f);
    EXPECT_NEAR(y[2], 0.0f, 1e-40f);
    if (function == ActivationKind::Gelu) // -12 Phi(-12)
      EXPECT_NEAR(y[3] / -2.1317785345e-32f, 1.0f, 1e-6f);
  }
}

TEST(Reference, AddMulAndScale) {
  const Matrix a = Matrix::random(3, 5, 1), b = Matrix::random(3, 5, 2);
  Matrix out(3, 5);
  add(a, b, out);
  expectAll(out, [&](int64_t r, int64_t i) { return a.at(r, i) + b.at(r, i); });
  mul(a, b, out);
  expectAll(out, [&](int64_t r, int64_t i) { return a.at(r, i) * b.at(r, i); });
  scale(a, 3.5, 0, out);
  expectAll(out, [&](int64_t r, int64_t i) { return a.at(r, i) * 3.5L; });
  scale(a, 3.5, 2.0, out);
  expectAll(out, [&](int64_t r, int64_t i) { return 2 * std::tanh(a.at(r, i) * 3.5L / 2); });
}

} // namespace
} // namespace kernelforge::reference
