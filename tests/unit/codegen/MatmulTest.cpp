// The matmul family against f64: every weight type, odd sizes, both ways to read weights, and what
// stands before and after a matmul.
#include "../support/WeightTypes.h"
#include "KernelRunner.h"

#include "kernelforge/kernels/Layout.h"
#include "kernelforge/kernels/ReferenceOperands.h"
#include "kernelforge/support/ElementType.h"

#include <cmath>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <random>

using namespace kernelforge;

namespace {

/// A weight matrix: bytes in the layout that kernels read, and its values.
struct TestWeight {
  Bytes bytes;
  std::vector<double> values; ///< [n, k]
  std::string mlir;
};

std::string elementText(ElementType type) {
  std::string name(info(type).name);
  return info(type).isQuantized() ? "!transformer.quant<" + name + ">" : name;
}

TestWeight makeWeight(ElementType type, int64_t n, int64_t k, uint64_t seed,
                      bool transpose = false) {
  int64_t rows = transpose ? k : n, width = transpose ? n : k;
  std::vector<float> values = randomFloats(rows * width, seed, 0.5f);
  Bytes rowMajor(rows * *rowBytes(type, width));
  std::vector<float> row(width);
  TestWeight weight;
  weight.values.resize(n * k);
  for (int64_t i = 0; i < rows; ++i) {
    std::byte *bytes = rowMajor.data() + i * *rowBytes(type, width);
    quantizeRow(type, values.data() + i * width, width, bytes);
    dequantizeRow(type, bytes, width, row.data());
    for (int64_t j = 0; j < width; ++j)
      weight.values[transpose ? j * k + i : i * k + j] = row[j];
  }
  if (transpose) {
    weight.bytes = rowMajor;
    weight.mlir = fmt::format("tensor<{}x{}x{}>", k, n, elementText(type));
  } else {
    weight.bytes.resize((n + 15) / 16 * 16 * *rowBytes(type, k));
    packInterleaved(type, rowMajor.data(), n, k, weight.bytes.data());
    weight.mlir = fmt::format("tensor<{}x{}x{}, #transformer.layout<interleaved, rows = 16>>", n, k,
                              elementText(type));
  }
  return weight;
}

std::vector<double> product(const std::vector<double> &x, const TestWeight &weight, int64_t m,
                            int64_t n, int64_t k) {
  std::vector<double> y(m * n);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      const double *row = &x[i * k],
                   *column = &weight.values[j * k]; // plain: this is not optimised
      double sum = 0;
      for (int64_t l = 0; l < k; ++l)
        sum += row[l] * column[l];
      y[i * n + j] = sum;
    }
  return y;
}

std::vector<double> widen(const std::vector<float> &x) { return {x.begin(), x.end()}; }

/// `%tokens: index {...}` with a range around `rows`: few rows and many take different schedules.
std::string sizeText(int64_t rows) {
  return fmt::format("%tokens: index {{transformer.size = #transformer.size<\"tokens\", 1 to {}>}}",
                     rows <= 4 ? 4 : 512);
}

struct Shape {
  int64_t m, n, k;
};

constexpr Shape plainShapes[] = {{1, 1, 1},   {1, 16, 8},    {1, 65, 33},    {3, 7, 129},
                                 {4, 64, 64}, {5, 1, 1},     {7, 33, 13},    {6, 64, 96},
                                 {13, 80, 7}, {65, 17, 100}, {200, 130, 801}};
constexpr Shape quantShapes[] = {{1, 1, 32},  {1, 65, 64},   {2, 48, 96},   {4, 576, 576},
                                 {5, 17, 32}, {9, 131, 160}, {67, 64, 832}, {200, 70, 1536}};

constexpr Shape superBlockShapes[] = {
    {1, 1, 256}, {1, 65, 512}, {3, 37, 768}, {5, 17, 256}, {17, 131, 1280}};

/// `numerics`: "i8", where rows are rounded to whole numbers, or "bf16", where rows and weights
/// are.
void checkPlainProduct(ElementType type, const Shape &shape, const std::string &level,
                       bool transpose, const Knobs &knobs = {}, const std::string &numerics = "") {
  const bool asIntegers = numerics == "i8";
  auto [m, n, k] = shape;
  SCOPED_TRACE(fmt::format("{} {}x{}x{} {} {}{}", info(type).name, m, n, k, level, numerics,
                           transpose ? " transposed" : ""));
  TestWeight weight = makeWeight(type, n, k, 7 * n + k, transpose);
  std::vector<float> x = randomFloats(m * k, m + 3);
  std::string attributes = transpose ? "transpose" : "";
  if (!numerics.empty())
    attributes += fmt::format("{}numerics = #transformer.numerics<multiply = {}, accumulate = f32>",
                              transpose ? ", " : "", numerics);
  std::string text =
      fmt::format("transformer.kernel @k({0}, %x: {1}, %w: {2}) -> {3} {{\n"
                  "  %y = transformer.matmul %x weights(%w) {{{4}}} : ({1}, {2}) -> {3}\n"
                  "  transformer.yield %y : {3}\n}}\n",
                  sizeText(m), rowsText(k), weight.mlir, rowsText(n), attributes);
  if (asIntegers) { // of zeros alone, and with one number that all others are small beside
    std::fill_n(x.begin(), integerBlock, 0.0f);
    x.back() = 3e4f;
  }
  CompiledKernel kernel = compileOrDie(text, level, knobs);
  KernelOutcome outcome = kernel.run({m}, {bytesOf(x), weight.bytes});
  for (size_t i = 0; asIntegers && i < x.size(); i += integerBlock)
    reference::roundToIntegers(x.data() + i, integerBlock, 127);
  if (numerics == "bf16") {
    auto round = [](auto &value) { value = bfloat16ToFloat(floatToBfloat16(float(value))); };
    std::for_each(x.begin(), x.end(), round);
    std::for_each(weight.values.begin(), weight.values.end(), round);
  }
  // A handful of outputs may cancel by chance; over many the mean error is what f32 gives.
  expectClose(valuesOf<float>(outcome.results[0]), product(widen(x), weight, m, n, k), text,
              m * n < 64 ? 1e-10 : 1e-12);
}

TEST(Matmul, EveryTypeAndShape) {
  for (const std::string &level : everyRunnableLevel())
    for (ElementType type : weightTypes())
      for (const Shape &shape : quantShapes)
        if (shape.k % info(type).blockElements == 0)
          checkPlainProduct(type, shape, level, false);
}

TEST(Matmul, RowsOfWholeNumbers) {
  for (const std::string &level : everyRunnableLevel())
    for (ElementType type : quantizedWeightTypes()) {
      if (!info(type).hasIntegers())
        continue;
      const bool super = info(type).blockElements > 32;
      for (const Shape &shape :
           super ? std::span<const Shape>(superBlockShapes) : std::span<const Shape>(quantShapes))
        if (shape.m * shape.n * shape.k < 10'000'000)
          checkPlainProduct(type, shape, level, false, {}, "i8");
    }
  // Of the types that lie alike, one for each schedule.
  using enum ElementType;
  const std::tuple<Knobs, std::vector<ElementType>> schedules[] = {
      {{{"mr", 2}, {"mc", 6}}, {Q8_0, Q4_K, Q3_K}},
      {{{"groups", 2}}, {Q4_1, Q6_K, MXFP4}},
      {{{"splits", 2}}, {Q8_0, Q2_K, IQ4_XS}},
      {{{"prefetch", 2}, {"nb", 32}, {"mr", 1}}, {Q4_1, Q5_K, Q3_K}},
      // Weights are taken apart for so many tiles of rows.
      {{{"mr", 1}, {"mc", 5}}, {Q8_0, Q4_1, Q4_K, Q6_K, Q2_K, Q3_K, Q5_K, IQ4_XS, MXFP4}},
      {{{"mr", 1}, {"mc", 4}, {"groups", 2}, {"splits", 2}, {"nb", 48}}, {Q4_1, Q6_K, Q2_K}}};
  for (const auto &[knobs, types] : schedules)
    for (ElementType type : types)
      checkPlainProduct(type, {7, 70, 768}, "native", false, knobs, "i8");
}

TEST(Matmul, MinimaOfWeightsWithSubBlocksOfDifferentSizes) {
  for (const std::string &level : runnableLevels())
    for (int64_t m : {1, 3})
      for (ElementType other : {ElementType::Q4_K, ElementType::Q5_1, ElementType::Q8_0}) {
        SCOPED_TRACE(fmt::format("{} {} {}", info(other).name, m, level));
        constexpr int64_t k = 512;
        const TestWeight first = makeWeight(ElementType::Q2_K, 32, k, 5, false),
                         second = makeWeight(other, 48, k, 6, false);
        const std::vector<float> x = randomFloats(m * k, 9);
        const std::string text = fmt::format(
            "transformer.kernel @k({0}, %x: {1}, %v: {2}, %w: {3}) -> ({4}, {5}) {{\n"
            "  %y, %z = transformer.matmul %x weights(%v, %w) : ({1}, {2}, {3}) -> ({4}, {5})\n"
            "  transformer.yield %y, %z : {4}, {5}\n}}\n",
            sizeText(m), rowsText(k), first.mlir, second.mlir, rowsText(32), rowsText(48));
        CompiledKernel kernel = compileOrDie(text, level, {{"panel", 0}});
        KernelOutcome outcome = kernel.run({m}, {bytesOf(x), first.bytes, second.bytes});
        expectClose(valuesOf<float>(outcome.results[0]), product(widen(x), first, m, 32, k), text,
                    1e-10);
        expectClose(valuesOf<float>(outcome.results[1]), product(widen(x), second, m, 48, k), text,
                    1e-10);
      }
}

TEST(Matmul, RowsAndWeightsOfBfloat16) {
  for (const std::string &level : bfloat16Levels()) {
    for (const ElementTypeInfo &t : elementTypes()) {
      if (t.type == ElementType::I32)
        continue;
      for (const Shape &shape : t.blockElements > 32 ? std::span<const Shape>(superBlockShapes)
                                : t.isQuantized()    ? std::span<const Shape>(quantShapes)
                                                     : std::span<const Shape>(plainShapes))
        // How quants are taken apart does not depend on the rows: a few of them show that it is
        // right.
        if (shape.m * shape.n * shape.k < 10'000'000 &&
            (!t.isQuantized() || shape.m == 5 || shape.m > 9))
          checkPlainProduct(t.type, shape, level, false, {}, "bf16");
    }
    for (const Shape &shape : plainShapes)
      for (ElementType type : {ElementType::F32, ElementType::BF16})
        checkPlainProduct(type, shape, level, true, {}, "bf16");
    for (const Knobs &knobs : {Knobs{{"panel", 1}, {"mr", 5}, {"mc", 10}},
                               {{"panel", 1}, {"kc", 64}, {"groups", 1}, {"nb", 48}},
                               {{"panel", 1}, {"kc", 32}, {"splits", 3}, {"unroll", 1}},
                               {{"panel", 1}, {"groups", 2}, {"nb", 48}, {"kc", 96}}})
      for (ElementType type : {ElementType::Q8_0, ElementType::BF16})
        checkPlainProduct(type, {45, 70, 224}, level, false, knobs, "bf16");
  }
}

TEST(Matmul, LargeBlocksOfEveryTypeAndShape) {
  for (const std::string &level : runnableLevels())
    for (ElementType type : quantizedWeightTypes())
      if (info(type).blockElements > 32) // EveryTypeAndShape has the others
        for (const Shape &shape : superBlockShapes)
          checkPlainProduct(type, shape, level, false);
}

TEST(Matmul, PlainTypesOfOddDepth) {
  for (const std::string &level : runnableLevels())
    for (ElementType type : {ElementType::F32, ElementType::F16, ElementType::BF16})
      for (const Shape &shape : plainShapes)
        checkPlainProduct(type, shape, level, false);
}

TEST(Matmul, TransposedWeights) {
  for (const std::string &level : runnableLevels())
    for (ElementType type : {ElementType::F32, ElementType::F16, ElementType::BF16})
      for (const Shape &shape : plainShapes)
        checkPlainProduct(type, shape, level, true);
}

TEST(Matmul, OtherSchedulesGiveTheSameProduct) {
  for (const std::string &level : runnableLevels()) {
    checkPlainProduct(ElementType::Q4_1, {37, 200, 160}, level, false,
                      {{"panel", 1}, {"mr", 2}, {"groups", 2}, {"mc", 8}, {"kc", 32}, {"nb", 48}});
    checkPlainProduct(ElementType::Q8_0, {9, 100, 96}, level, false,
                      {{"panel", 0},
                       {"mr", 1},
                       {"groups", 3},
                       {"mc", 1},
                       {"kc", 96},
                       {"nb", 32},
                       {"prefetch", 4}});
    checkPlainProduct(ElementType::Q4_K, {21, 100, 512}, level, false,
                      {{"panel", 1}, {"mr", 4}, {"groups", 1}, {"mc", 12}, {"kc", 64}, {"nb", 32}});
    for (ElementType type : quantizedWeightTypes()) {
      checkPlainProduct(type, {3, 100, 512}, level, false,
                        {{"panel", 0}, {"groups", 3}, {"nb", 64}, {"prefetch", 5}});
      checkPlainProduct(
          type, {9, 50, 512}, level, false,
          {{"panel", 1}, {"mr", 3}, {"groups", 1}, {"mc", 6}, {"kc", 128}, {"nb", 32}});
    }
    checkPlainProduct(ElementType::F32, {30, 100, 50}, level, false,
                      {{"panel", 1}, {"mr", 3}, {"groups", 1}, {"mc", 6}, {"kc", 24}, {"nb", 64}});
  }
}

TEST(Matmul, SplitsOfK) {
  for (const std::string &level : runnableLevels()) {
    // In registers: a last block that is shorter, more splits than are even, several row blocks.
    checkPlainProduct(ElementType::F32, {3, 100, 333}, level, false, {{"splits", 7}});
    checkPlainProduct(ElementType::Q4_1, {2, 40, 320}, level, false, {{"splits", 3}, {"mc", 1}});
    checkPlainProduct(ElementType::F32, {4, 16, 4096}, level, false, {{"splits", 64}});
    // Panels: the last one shorter, one split with nothing but it, unpacked rows.
    checkPlainProduct(ElementType::Q8_0, {30, 100, 320}, level, false,
                      {{"splits", 3}, {"kc", 64}, {"mr", 6}, {"mc", 6}});
    checkPlainProduct(ElementType::F32, {7, 333, 129}, level, false,
                      {{"splits", 2}, {"kc", 128}, {"mr", 6}, {"mc", 6}});
    checkPlainProduct(ElementType::F32, {7, 33, 129}, level, true,
                      {{"splits", 4}, {"kc", 32}, {"mr", 6}, {"mc", 6}, {"pack", 0}});
  }
}

TEST(Matmul, AnyCombinationOfKnobsGivesTheSameProduct) {
  const std::vector<std::pair<std::string, std::vector<int64_t>>> knobs = {
      {"panel", {0, 1}},       {"mr", {1, 2, 4, 6}},      {"groups", {1, 2, 3, 4}},
      {"mc", {4, 12, 24, 48}}, {"kc", {32, 64, 96, 160}}, {"nb", {16, 48, 64, 96}},
      {"unroll", {1, 2, 8}},   {"splits", {1, 2, 3}},     {"pack", {0, 1}},
      {"order", {0, 1}},       {"prefetch", {0, 3}}};
  std::mt19937_64 random(20);
  int legal = 0;
  for (int i = 0; i < 1000 && legal < 24; ++i) {
    Knobs chosen;
    for (const auto &[name, values] : knobs)
      chosen.emplace_back(name, values[random() % values.size()]);
    const ElementType type = i % 2 ? ElementType::F32 : ElementType::Q4_1;
    TestWeight weight = makeWeight(type, 100, 160, 1);
    const std::string text =
        fmt::format("transformer.kernel @k({0}, %x: {1}, %w: {2}) -> {3} {{\n"
                    "  %y = transformer.matmul %x weights(%w) : ({1}, {2}) -> {3}\n"
                    "  transformer.yield %y : {3}\n}}\n",
                    sizeText(50), rowsText(160), weight.mlir, rowsText(100));
    if (!CompiledKernel::compile(text, "native", chosen))
      continue; // not legal together
    ++legal;
    checkPlainProduct(type, {50, 100, 160}, "native", false, chosen);
  }
  EXPECT_EQ(legal, 24);
}

TEST(Matmul, EqualOrderClassesGiveEqualBits) {
  const int64_t m = 50, n = 100, k = 160;
  std::mt19937_64 random(21);
  auto oneOf = [&](std::initializer_list<int64_t> values) {
    return values.begin()[random() % values.size()];
  };
  const std::vector<float> x = randomFloats(m * k, 1);
  for (ElementType type : {ElementType::F32, ElementType::Q4_1, ElementType::Q8_0}) {
    TestWeight weight = makeWeight(type, n, k, 2);
    const std::string text =
        fmt::format("transformer.kernel @k({0}, %x: {1}, %w: {2}) -> {3} {{\n"
                    "  %y = transformer.matmul %x weights(%w) : ({1}, {2}) -> {3}\n"
                    "  transformer.yield %y : {3}\n}}\n",
                    sizeText(m), rowsText(k), weight.mlir, rowsText(n));
    std::map<std::string, std::pair<std::string, Bytes>> first; // schedule and bits, by class
    int compared = 0;
    for (int i = 0; i < 300 && compared < 12; ++i) {
      const int64_t panel = i % 2;
      auto kernel = CompiledKernel::compile(text, "native",
                                            {{"panel", panel},
                                             {"mr", panel ? oneOf({1, 3, 4, 6}) : 1},
                                             {"groups", oneOf({1, 2, 3, 4})},
                                             {"mc", oneOf({6, 12, 24, 48})},
                                             {"kc", oneOf({64, 160})},
                                             {"nb", oneOf({16, 48, 64})},
                                             {"unroll", panel ? oneOf({1, 2, 8}) : 1},
                                             {"splits", oneOf({1, 2})},
                                             {"pack", oneOf({0, 1})},
                                             {"order", oneOf({0, 1})}});
      if (!kernel)
        continue; // not legal together
      const Bytes bits = kernel->run({m}, {bytesOf(x), weight.bytes}).results[0];
      auto [other, isNew] = first.try_emplace(kernel->orderClass, kernel->schedule, bits);
      compared += !isNew;
      EXPECT_EQ(bits, other->second.second)
          << info(type).name << ", class " << kernel->orderClass << ": " << kernel->schedule
          << " and " << other->second.first;
    }
    EXPECT_EQ(compared, 12) << info(type).name;
  }
}

TEST(Matmul, IllegalSchedulesAreRefusedByName) {
  TestWeight weight = makeWeight(ElementType::Q4_1, 64, 64, 1);
  std::string text = fmt::format("transformer.kernel @k({0}, %x: {1}, %w: {2}) -> {1} {{\n"
                                 "  %y = transformer.matmul %x weights(%w) : ({1}, {2}) -> {1}\n"
                                 "  transformer.yield %y : {1}\n}}\n",
                                 sizeText(64), rowsText(64), weight.mlir);
  for (auto [name, value] :
       {std::pair("mr", 40), std::pair("nb", 20), std::pair("mc", -7), std::pair("kc", 33),
        std::pair("panel", 2), std::pair("unroll", 17), std::pair("splits", 9),
        std::pair("pack", 2), std::pair("order", -1), std::pair("prefetch", 65)}) {
    auto compiled = CompiledKernel::compile(text, "avx2", {{name, value}});
    ASSERT_FALSE(compiled.has_value()) << name;
    EXPECT_EQ(compiled.error().kind, ErrorKind::Unusable);
    EXPECT_NE(compiled.error().line().find(name), std::string::npos) << compiled.error().line();
    EXPECT_NE(compiled.error().line().find(std::to_string(value)), std::string::npos)
        << compiled.error().line();
  }
}

TEST(Matmul, WhatCannotFollowATileIsRefused) {
  const TestWeight weight = makeWeight(ElementType::F32, 64, 64, 1);
  const std::string indices = "tensor<?xi32, #transformer.dims<\"tokens\">>";
  auto errorOf = [&](const std::string &body, const std::string &result) {
    auto kernel = CompiledKernel::compile(
        fmt::format("transformer.kernel @k({0}, %x: {1}, %w: {2}, %n: tensor<64xf32>, %i: {3}, "
                    "%o: tensor<5x32xf32>, %j: tensor<5xi32>) -> {4} {{\n"
                    "  %m = transformer.matmul %x weights(%w) : ({1}, {2}) -> {1}\n  {5}\n"
                    "  transformer.yield %y : {4}\n}}\n",
                    sizeText(8), rowsText(64), weight.mlir, indices, result, body),
        "avx2");
    return kernel ? "it compiled" : kernel.error().line();
  };
  const std::string rows = rowsText(64);
  // Whole rows are not at hand, nor are other rows.
  EXPECT_THAT(errorOf("%y = transformer.softmax %m : " + rows, rows),
              testing::HasSubstr("transformer.softmax needs whole rows"));
  EXPECT_THAT(
      errorOf(fmt::format("%s = transformer.rms_norm %x, %n {{epsilon = 0.1 : f64}} : ({0}, "
                          "tensor<64xf32>) -> {0}\n"
                          "%y = transformer.add %m, %s : {0}",
                          rows),
              rows),
      testing::HasSubstr("transformer.rms_norm needs whole rows"));
  EXPECT_THAT(
      errorOf(fmt::format("%y = transformer.gather_rows %m, %i : ({0}, {1}) -> {0}", rows, indices),
              rows),
      testing::HasSubstr("transformer.gather_rows needs other rows"));
  // Nor are rows and columns that the matmul does not have.
  EXPECT_THAT(errorOf("%y = transformer.embedding %j, %o : (tensor<5xi32>, tensor<5x32xf32>) -> "
                      "tensor<5x32xf32>",
                      "tensor<5x32xf32>"),
              testing::HasSubstr("another type than the matmul's"));
  // Rows that are looked up beside the tile are.
  EXPECT_EQ(errorOf(fmt::format("%g = transformer.gather_rows %x, %i : ({0}, {1}) -> {0}\n"
                                "%y = transformer.add %m, %g : {0}",
                                rows, indices),
                    rows),
            "it compiled");
}

/// rms_norm before, two segments joined by silu and mul after.
void checkGatedUp(ElementType type, int64_t m, int64_t n, int64_t k, const std::string &level) {
  SCOPED_TRACE(fmt::format("gated {} {}x{}x{} {}", info(type).name, m, n, k, level));
  TestWeight gate = makeWeight(type, n, k, 11), up = makeWeight(type, n, k, 12);
  std::vector<float> x = randomFloats(m * k, 5), norm = randomFloats(k, 6);
  std::string text = fmt::format(
      "transformer.kernel @k({0}, %x: {1}, %n: tensor<{4}xf32>, %g: {2}, %u: {2}) -> {3} {{\n"
      "  %0 = transformer.rms_norm %x, %n {{epsilon = 1.0e-5 : f64}} : ({1}, tensor<{4}xf32>) -> "
      "{1}\n"
      "  %1:2 = transformer.matmul %0 weights(%g, %u) : ({1}, {2}, {2}) -> ({3}, {3})\n"
      "  %2 = transformer.activation %1#0 <silu> : {3}\n"
      "  %3 = transformer.mul %2, %1#1 : {3}\n"
      "  transformer.yield %3 : {3}\n}}\n",
      sizeText(m), rowsText(k), gate.mlir, rowsText(n), k);
  std::vector<double> normed(m * k);
  for (int64_t i = 0; i < m; ++i) {
    double square = 0;
    for (int64_t j = 0; j < k; ++j)
      square += double(x[i * k + j]) * x[i * k + j];
    for (int64_t j = 0; j < k; ++j)
      normed[i * k + j] = x[i * k + j] / std::sqrt(square / k + 1e-5) * norm[j];
  }
  std::vector<double> a = product(normed, gate, m, n, k), b = product(normed, up, m, n, k);
  for (size_t i = 0; i < a.size(); ++i)
    a[i] = a[i] / (1 + std::exp(-a[i])) * b[i];
  KernelOutcome outcome =
      compileOrDie(text, level).run({m}, {bytesOf(x), bytesOf(norm), gate.bytes, up.bytes});
  expectClose(valuesOf<float>(outcome.results[0]), a, text);
}

TEST(Matmul, NormBeforeAndGateAfter) {
  for (const std::string &level : runnableLevels())
    for (int64_t m : {1, 3, 17, 100}) {
      checkGatedUp(ElementType::Q4_1, m, 100, 64, level);
      checkGatedUp(ElementType::F32, m, 33, 50, level);
      checkGatedUp(ElementType::Q4_K, m, 40, 256, level);
    }
}

/// Bias and residual; segments of different widths and types, one of them rotated and appended.
void checkSegments(int64_t m, int64_t headDim, const std::string &pairing,
                   const std::string &level) {
  SCOPED_TRACE(fmt::format("segments m {} head {} {} {}", m, headDim, pairing, level));
  constexpr int64_t k = 96, heads = 3, positions = 40;
  int64_t nq = heads * headDim, nv = 50;
  TestWeight wq = makeWeight(ElementType::Q4_1, nq, k, 21);
  TestWeight wv = makeWeight(ElementType::F16, nv, k, 22);
  std::vector<float> x = randomFloats(m * k, 23), bq = randomFloats(nq, 24),
                     bv = randomFloats(nv, 25), residual = randomFloats(m * nv, 26),
                     table = randomFloats(positions * headDim, 27);
  std::vector<int32_t> at(m), slots(m);
  for (int64_t i = 0; i < m; ++i) {
    at[i] = static_cast<int32_t>((i * 7) % positions);
    slots[i] = i % 5 == 3 ? -1 : static_cast<int32_t>(m - 1 - i);
  }
  std::string rotary = fmt::format("tensor<?x{}xf32, #transformer.dims<\"context\">>", headDim);
  std::string index = "tensor<?xi32, #transformer.dims<\"tokens\">>";
  std::string cache = fmt::format("!transformer.cache<{}, {}, f32>", heads, headDim);
  std::string text = fmt::format(
      "transformer.kernel @k({0}, %context: index {{transformer.size = "
      "#transformer.size<\"context\", 1 to 64>}}, %x: {1}, %wq: {2}, %wv: {3}, %bq: "
      "tensor<{4}xf32>, "
      "%bv: tensor<{5}xf32>, %r: {7}, %t: {8}, %p: {9}, %s: {9}, %c: {10}) -> ({6}, {7}) {{\n"
      "  %0:2 = transformer.matmul %x weights(%wq, %wv) bias(%bq, %bv) : ({1}, {2}, {3}, "
      "tensor<{4}xf32>, tensor<{5}xf32>) -> ({6}, {7})\n"
      "  %1 = transformer.rope %0#0, %p, %t <{11}> {{headDim = {12} : i64}} : ({6}, {9}, {8}) -> "
      "{6}\n"
      "  transformer.cache_append %1, %s into %c : {10}, {6}, {9}\n"
      "  %2 = transformer.add %r, %0#1 : {7}\n"
      "  transformer.yield %1, %2 : {6}, {7}\n}}\n",
      sizeText(m), rowsText(k), wq.mlir, wv.mlir, nq, nv, rowsText(nq), rowsText(nv), rotary, index,
      cache, pairing, headDim);
  std::vector<double> q = product(widen(x), wq, m, nq, k), v = product(widen(x), wv, m, nv, k);
  std::vector<double> rotated(m * nq), expectedCache(m * nq, -7.0);
  int64_t half = headDim / 2;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t j = 0; j < half; ++j) {
        int64_t first = h * headDim + (pairing == "half_split" ? j : 2 * j);
        int64_t second = pairing == "half_split" ? first + half : first + 1;
        double a = q[i * nq + first] + bq[first], b = q[i * nq + second] + bq[second];
        double cosine = table[at[i] * headDim + j], sine = table[at[i] * headDim + half + j];
        rotated[i * nq + first] = a * cosine - b * sine;
        rotated[i * nq + second] = a * sine + b * cosine;
      }
    for (int64_t j = 0; j < nv; ++j)
      v[i * nv + j] += bv[j] + residual[i * nv + j];
    if (slots[i] >= 0)
      std::copy_n(rotated.begin() + i * nq, nq, expectedCache.begin() + slots[i] * nq);
  }
  std::vector<float> cacheBefore(m * nq, -7.0f);
  KernelOutcome outcome =
      compileOrDie(text, level)
          .run({m, positions},
               {bytesOf(x), wq.bytes, wv.bytes, bytesOf(bq), bytesOf(bv), bytesOf(residual),
                bytesOf(table), bytesOf(at), bytesOf(slots), bytesOf(cacheBefore)});
  expectClose(valuesOf<float>(outcome.results[0]), rotated, text);
  expectClose(valuesOf<float>(outcome.results[1]), v, text);
  expectClose(valuesOf<float>(outcome.arguments.back()), expectedCache, text);
}

/// Real files mix types within one layer: the segments of one matmul then read different blocks.
TEST(Matmul, SegmentsOfDifferentBlocks) {
  constexpr int64_t k = 512;
  constexpr int64_t widths[] = {40, 17, 33};
  for (const std::string &level : runnableLevels())
    for (int64_t m : {1, 9}) {
      TestWeight weights[] = {makeWeight(ElementType::Q4_K, widths[0], k, 31),
                              makeWeight(ElementType::Q6_K, widths[1], k, 32),
                              makeWeight(ElementType::Q4_1, widths[2], k, 33)};
      std::vector<float> x = randomFloats(m * k, 34);
      std::string text = fmt::format(
          "transformer.kernel @k({0}, %x: {1}, %a: {2}, %b: {3}, %c: {4}) -> ({5}, {6}, {7}) {{\n"
          "  %y:3 = transformer.matmul %x weights(%a, %b, %c) : ({1}, {2}, {3}, {4}) -> ({5}, {6}, "
          "{7})\n"
          "  transformer.yield %y#0, %y#1, %y#2 : {5}, {6}, {7}\n}}\n",
          sizeText(m), rowsText(k), weights[0].mlir, weights[1].mlir, weights[2].mlir,
          rowsText(widths[0]), rowsText(widths[1]), rowsText(widths[2]));
      KernelOutcome outcome =
          compileOrDie(text, level)
              .run({m}, {bytesOf(x), weights[0].bytes, weights[1].bytes, weights[2].bytes});
      for (size_t i = 0; i < 3; ++i)
        expectClose(valuesOf<float>(outcome.results[i]),
                    product(widen(x), weights[i], m, widths[i], k), text, 1e-11);
    }
}

TEST(Matmul, SegmentsWithBiasRopeAppendAndResidual) {
  for (const std::string &level : runnableLevels())
    for (int64_t m : {1, 4, 23})
      for (int64_t headDim : {64, 32, 24, 10})
        for (const char *pairing : {"half_split", "interleaved"})
          checkSegments(m, headDim, pairing, level);
}

} // namespace
