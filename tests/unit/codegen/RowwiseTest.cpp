#include "../support/WeightTypes.h"
#include "KernelRunner.h"

#include "kernelforge/codegen/ObjectFile.h"
#include "kernelforge/codegen/cpu/ObjectEmitter.h"
#include "kernelforge/kernels/Reference.h"

#include <cmath>
#include <limits>
#include <random>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

constexpr int64_t widths[] = {1, 7, 15, 16, 17, 33, 576};

/// A kernel over rows of `width`; `arguments` follow %x, `body` defines %y.
std::string rowsKernel(int64_t width, const std::string &arguments, const std::string &body) {
  return fmt::format(R"mlir(
!rows = tensor<?x{0}xf32, #transformer.dims<"tokens">>
!indices = tensor<?xi32, #transformer.dims<"tokens">>
!vector = tensor<{0}xf32>
transformer.kernel @k(%n: index {{transformer.size = #transformer.size<"tokens", 1 to 64>}},
                      %x: !rows{1}) -> !rows {{
  {2}
  transformer.yield %y : !rows
}})mlir",
                     width, arguments, body);
}

/// What an operation makes of x [rows, width] and two vectors of `width`.
using Reference = std::function<void(reference::Rows x, const std::vector<float> &a,
                                     const std::vector<float> &b, reference::MutableRows out)>;
struct OpCase {
  const char *name;
  const char *body;
  Reference expected;
};

const OpCase ops[] = {
    {"rms_norm",
     "%y = transformer.rms_norm %x, %a {epsilon = 1.0e-5 : f64} : (!rows, !vector) -> !rows",
     [](auto x, auto &a, auto &b, auto out) { reference::rmsNorm(x, a, 1e-5, out); }},
    {"layer_norm",
     "%y = transformer.layer_norm %x, %a, %b {epsilon = 1.0e-5 : f64} : (!rows, !vector, !vector) "
     "-> !rows",
     [](auto x, auto &a, auto &b, auto out) { reference::layerNorm(x, a, b, 1e-5, out); }},
    {"layer_norm without bias",
     "%y = transformer.layer_norm %x, %a {epsilon = 1.0e-5 : f64} : (!rows, !vector) -> !rows",
     [](auto x, auto &a, auto &b, auto out) { reference::layerNorm(x, a, {}, 1e-5, out); }},
    {"softmax", "%y = transformer.softmax %x : !rows",
     [](auto x, auto &a, auto &b, auto out) { reference::softmax(x, out); }},
    {"silu", "%y = transformer.activation %x <silu> : !rows",
     [](auto x, auto &a, auto &b, auto out) {
       reference::activation(x, ActivationKind::Silu, out);
     }},
    {"gelu", "%y = transformer.activation %x <gelu> : !rows",
     [](auto x, auto &a, auto &b, auto out) {
       reference::activation(x, ActivationKind::Gelu, out);
     }},
    {"gelu_tanh", "%y = transformer.activation %x <gelu_tanh> : !rows",
     [](auto x, auto &a, auto &b, auto out) {
       reference::activation(x, ActivationKind::GeluTanh, out);
     }},
    {"relu", "%y = transformer.activation %x <relu> : !rows",
     [](auto x, auto &a, auto &b, auto out) {
       reference::activation(x, ActivationKind::Relu, out);
     }},
    {"add", "%y = transformer.add %x, %x : !rows",
     [](auto x, auto &a, auto &b, auto out) { reference::add(x, x, out); }},
    {"mul", "%y = transformer.mul %x, %x : !rows",
     [](auto x, auto &a, auto &b, auto out) { reference::mul(x, x, out); }},
    {"scale", "%y = transformer.scale %x {factor = -1.5 : f64, softcap = 2.0 : f64} : !rows",
     [](auto x, auto &a, auto &b, auto out) { reference::scale(x, -1.5, 2.0, out); }},
    // Statistics of statistics, in one kernel.
    {"norm of softmax",
     "%s = transformer.softmax %x : !rows\n"
     "%y = transformer.rms_norm %s, %a {epsilon = 1.0e-9 : f64} : (!rows, !vector) -> !rows",
     [](auto x, auto &a, auto &b, auto out) {
       reference::softmax(x, out);
       reference::rmsNorm(out, a, 1e-9, out);
     }},
};

class RowwiseOps : public testing::TestWithParam<OpCase> {};

std::string packKernel(ElementType type, int64_t rows, int64_t width, bool interleaved = true) {
  std::string from = weightText(type, rows, width, false);
  std::string to = weightText(type, rows, width, interleaved);
  return fmt::format("transformer.kernel @pack(%w: {0}) -> {1} {{\n"
                     "%p = transformer.pack %w : {0} to {1}\ntransformer.yield %p : {1}\n}}",
                     from, to);
}

std::vector<int64_t> widthsOf(ElementType type) {
  const int64_t block = info(type).blockElements;
  return info(type).isQuantized() ? std::vector<int64_t>{block, 3 * block}
                                  : std::vector<int64_t>{1, 16, 33};
}

std::string errorOf(const std::string &text, const Knobs &knobs = {}) {
  auto kernel = CompiledKernel::compile(text, "native", knobs);
  return kernel ? "it compiled" : kernel.error().line();
}

} // namespace

TEST_P(RowwiseOps, EqualTheReference) {
  const OpCase &op = GetParam();
  for (int64_t width : widths)
    for (const std::string &level : everyRunnableLevel()) {
      CompiledKernel kernel =
          compileOrDie(rowsKernel(width, ", %a: !vector, %b: !vector", op.body), level,
                       {{"rows_per_task", 2}, {"unroll", width == 576 ? 5 : 2}});
      EXPECT_THAT(*undefinedSymbols(kernel.object), testing::IsEmpty());
      for (int64_t rows : {1, 2, 5}) {
        const auto count = static_cast<size_t>(rows * width);
        std::vector<float> x = randomFloats(count, 7 + width, 3.0f), expected(count);
        std::vector<float> a = randomFloats(width, 8), b = randomFloats(width, 9);
        op.expected(reference::denseRows(x.data(), rows, width), a, b,
                    reference::denseRows(expected.data(), rows, width));
        auto outcome = kernel.run({rows}, {bytesOf(x), bytesOf(a), bytesOf(b)});
        expectClose(valuesOf<float>(outcome.results[0]), widened(expected),
                    fmt::format("{} of {} x {} on {}", op.name, rows, width, level));
      }
    }
}
INSTANTIATE_TEST_SUITE_P(All, RowwiseOps, testing::ValuesIn(ops), [](const auto &info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
});

TEST(Rowwise, SoftmaxOfExtremeRows) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  // One vector and a lane; several vectors at once; a row whose exponentials are not kept.
  for (int width : {17, 145, 16401}) {
    CompiledKernel kernel =
        compileOrDie(rowsKernel(width, "", "%y = transformer.softmax %x : !rows"), "native");
    constexpr int rows = 6;
    std::vector<float> x(size_t(width) * rows), expected(x.size());
    for (int i = 0; i < width; ++i) {
      const float values[rows] = {
          i == 3 ? 3e38f : -3e38f,             // all but one underflow
          i == width - 1 ? 0.0f : -infinity,   // masked but the last
          static_cast<float>(-10 * i),         // terms that end as denormals
          i == 5 ? std::nanf("") : 1.0f,       // NaN spreads over its row
          -1000.0f,                            // lanes past the end are above the highest
          static_cast<float>(i % 7) - 2000.0f, // and here, too
      };
      for (int r = 0; r < rows; ++r)
        x[size_t(r) * width + i] = values[r];
    }
    reference::softmax(reference::denseRows<const float>(x.data(), rows, width),
                       reference::denseRows(expected.data(), rows, width));
    std::vector<float> y = valuesOf<float>(kernel.run({rows}, {bytesOf(x)}).results[0]);
    for (size_t i = 0; i < x.size(); ++i)
      if (std::isnan(expected[i]))
        EXPECT_TRUE(std::isnan(y[i])) << i << " of width " << width;
      else
        EXPECT_NEAR(y[i], expected[i], (1e-6 + 3e-10 * width) * expected[i] + 0x1p-126)
            << i << " of " << width;
  }
}

TEST(Rowwise, LayerNormOfALargeMean) {
  // Beside the spread of a row its mean may be large, small, or that of one element far away.
  constexpr float epsilon = 1e-12f;
  for (int64_t width : {3, 16, 33, 4096}) {
    const std::string body = fmt::format(
        "%y = transformer.layer_norm %x, %a {{epsilon = {} : f64}} : (!rows, !vector) -> !rows",
        "1.0e-12");
    const std::vector<float> means{0, 1e2f, 1e3f, 1e4f, -1e6f};
    const auto rows = static_cast<int64_t>(means.size()) + 1;
    std::vector<float> x(rows * width), a = randomFloats(width, 2);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < width; ++i)
        x[r * width + i] = r + 1 < rows ? means[r] + std::max(1.0f, std::fabs(means[r]) * 1e-4f) *
                                                         randomFloats(1, 100 * r + i)[0]
                                        : (i == 0 ? 1e6f : 0.001f * static_cast<float>(i % 7));
    std::vector<double> expected(x.size());
    for (int64_t r = 0; r < rows; ++r) {
      const float *row = x.data() + r * width;
      double mean = 0, variance = 0;
      for (int64_t i = 0; i < width; ++i)
        mean += double(row[i]) / double(width);
      for (int64_t i = 0; i < width; ++i)
        variance += (row[i] - mean) * (row[i] - mean) / double(width);
      for (int64_t i = 0; i < width; ++i)
        expected[r * width + i] = (row[i] - mean) / std::sqrt(variance + epsilon) * a[i];
    }
    for (const std::string &level : runnableLevels()) {
      auto outcome = compileOrDie(rowsKernel(width, ", %a: !vector", body), level)
                         .run({rows}, {bytesOf(x), bytesOf(a)});
      expectClose(valuesOf<float>(outcome.results[0]), expected,
                  fmt::format("rows of {} on {}", width, level), 1e-11);
    }
  }
}

TEST(Rowwise, NormsTakeTheEpsilonOfTheirOp) {
  // Rows whose spread is small beside the largest epsilon and large beside the smallest.
  constexpr int64_t rows = 2, width = 20;
  const std::vector<float> x = randomFloats(rows * width, 1, 0.05f), a = randomFloats(width, 2);
  for (bool layer : {false, true})
    for (double epsilon : {0.0, 1e-6, 1e-3, 0.5}) {
      const std::string body =
          fmt::format("%y = transformer.{}_norm %x, %a {{epsilon = {:.17e} : f64}} "
                      ": (!rows, !vector) -> !rows",
                      layer ? "layer" : "rms", epsilon);
      std::vector<float> expected(x.size());
      const auto in = reference::denseRows(x.data(), rows, width);
      const auto out = reference::denseRows(expected.data(), rows, width);
      layer ? reference::layerNorm(in, a, {}, epsilon, out)
            : reference::rmsNorm(in, a, epsilon, out);
      auto outcome = compileOrDie(rowsKernel(width, ", %a: !vector", body), "native")
                         .run({rows}, {bytesOf(x), bytesOf(a)});
      expectClose(valuesOf<float>(outcome.results[0]), widened(expected),
                  fmt::format("{} norm, epsilon {}", layer ? "layer" : "rms", epsilon));
    }
}

TEST(Rowwise, SoftmaxOfALongRow) {
  constexpr int64_t width = 49152;
  CompiledKernel kernel =
      compileOrDie(rowsKernel(width, "", "%y = transformer.softmax %x : !rows"), "native");
  std::vector<float> x = randomFloats(width, 3, 5.0f), expected(width);
  reference::softmax(reference::denseRows<const float>(x.data(), 1, width),
                     reference::denseRows(expected.data(), 1, width));
  expectClose(valuesOf<float>(kernel.run({1}, {bytesOf(x)}).results[0]), widened(expected), "row",
              1e-11);
}

TEST(Rowwise, EmbeddingIsExactInEveryTypeAndLayout) {
  constexpr int64_t vocabulary = 35;
  const std::vector<int32_t> ids{34, 0, 15, 16, 31, 7};
  const auto rows = static_cast<int64_t>(ids.size());
  for (ElementType type : weightTypes())
    for (bool interleaved : {false, true})
      for (int64_t width : widthsOf(type))
        for (const std::string &level : runnableLevels()) {
          std::string table = weightText(type, vocabulary, width, interleaved);
          CompiledKernel kernel = compileOrDie(fmt::format(R"mlir(
transformer.kernel @k(%n: index {{transformer.size = #transformer.size<"tokens", 1 to 64>}},
    %ids: tensor<?xi32, #transformer.dims<"tokens">>, %t: {0})
    -> tensor<?x{1}xf32, #transformer.dims<"tokens">> {{
  %y = transformer.embedding %ids, %t : (tensor<?xi32, #transformer.dims<"tokens">>, {0})
      -> tensor<?x{1}xf32, #transformer.dims<"tokens">>
  transformer.yield %y : tensor<?x{1}xf32, #transformer.dims<"tokens">>
}})mlir",
                                                           table, width),
                                               level);
          Bytes weight = randomWeight(type, vocabulary, width, 5);
          std::vector<float> expected(rows * width);
          const size_t bytes = *rowBytes(type, width);
          for (int64_t r = 0; r < rows; ++r)
            dequantizeRow(type, weight.data() + ids[r] * bytes, width, &expected[r * width]);
          if (interleaved)
            weight = packedWeight(type, weight, vocabulary, width);
          auto outcome =
              kernel.run({rows}, {bytesOf(ids), weight}, info(type).blockBytes == 4 ? 4 : 2);
          EXPECT_EQ(valuesOf<float>(outcome.results[0]), expected)
              << info(type).name << " " << table << " on " << level;
        }
}

TEST(Rowwise, PackIsExactAndFillsWithZeros) {
  for (ElementType type : weightTypes())
    for (int64_t rows : {1, 40})
      for (int64_t width : widthsOf(type))
        for (const std::string &level : runnableLevels()) {
          CompiledKernel kernel =
              compileOrDie(packKernel(type, rows, width), level, {{"rows_per_task", 16}});
          Bytes weight = randomWeight(type, rows, width, 11);
          auto outcome = kernel.run({}, {weight}, 2);
          ASSERT_EQ(outcome.results[0], packedWeight(type, weight, rows, width))
              << info(type).name << " " << rows << " x " << width << " on " << level;
        }
}

TEST(Rowwise, PackOfTheSameLayoutCopies) {
  CompiledKernel kernel =
      compileOrDie(packKernel(ElementType::Q8_0, 40, 64, false), "native", {{"rows_per_task", 16}});
  Bytes weight = randomWeight(ElementType::Q8_0, 40, 64, 12);
  EXPECT_EQ(kernel.run({}, {weight}, 2).results[0], weight);
}

TEST(Rowwise, CacheAppendWritesOnlyItsSlots) {
  for (int64_t dim : {8, 11, 64}) {
    const int64_t width = 3 * dim, rows = 4, slots = 9;
    std::string types = fmt::format("!transformer.cache<3, {0}, f32>, "
                                    "tensor<?x{1}xf32, #transformer.dims<\"tokens\">>, "
                                    "tensor<?xi32, #transformer.dims<\"tokens\">>",
                                    dim, width);
    std::string text = fmt::format(R"mlir(
transformer.kernel @k(%n: index {{transformer.size = #transformer.size<"tokens", 1 to 64>}},
    %c: !transformer.cache<3, {0}, f32>, %x: tensor<?x{1}xf32, #transformer.dims<"tokens">>,
    %s: tensor<?xi32, #transformer.dims<"tokens">>) {{
  transformer.cache_append %x, %s into %c : {2}
  transformer.yield
}})mlir",
                                   dim, width, types);
    std::vector<float> x = randomFloats(rows * width, 21), cache = randomFloats(slots * width, 22);
    std::vector<int32_t> places{8, -1, 0, 3};
    auto outcome =
        compileOrDie(text, "native").run({rows}, {bytesOf(cache), bytesOf(x), bytesOf(places)});
    for (int64_t r = 0; r < rows; ++r)
      if (places[r] >= 0)
        std::copy_n(x.begin() + r * width, width, cache.begin() + places[r] * width);
    EXPECT_EQ(valuesOf<float>(outcome.arguments[0]), cache);
  }
}

TEST(Rowwise, ResultsOfSeveralSizesAndWidths) {
  // Two row sizes make two phases; %x's sum is shared by two stores of one width.
  const char *text = R"mlir(
!tokens = tensor<?x20xf32, #transformer.dims<"tokens">>
!outputs = tensor<?x20xf32, #transformer.dims<"outputs">>
!indices = tensor<?xi32, #transformer.dims<"outputs">>
transformer.kernel @k(%n: index {transformer.size = #transformer.size<"tokens", 1 to 64>},
    %m: index {transformer.size = #transformer.size<"outputs", 1 to 8>},
    %x: !tokens, %w: tensor<20xf32>, %rows: !indices) -> (!tokens, !outputs, !tokens) {
  %sum = transformer.add %x, %x : !tokens
  %norm = transformer.rms_norm %sum, %w {epsilon = 1.0e-5 : f64} : 
      (!tokens, tensor<20xf32>) -> !tokens
  %g = transformer.gather_rows %sum, %rows : (!tokens, !indices) -> !outputs
  %soft = transformer.softmax %g : !outputs
  transformer.yield %norm, %soft, %sum : !tokens, !outputs, !tokens
})mlir";
  CompiledKernel kernel = compileOrDie(text, "native", {{"rows_per_task", 3}});
  ASSERT_EQ(kernel.launching.phases.size(), 2u);
  std::vector<float> x = randomFloats(7 * 20, 31), w = randomFloats(20, 32);
  std::vector<int32_t> picked{6, 2};
  std::vector<float> sum(x.size()), norm(x.size()), gathered(2 * 20), soft(2 * 20);
  auto rows = [](auto &values) {
    return reference::denseRows(values.data(), static_cast<int64_t>(values.size()) / 20, 20);
  };
  reference::add(rows(x), rows(x), rows(sum));
  reference::rmsNorm(rows(sum), w, 1e-5, rows(norm));
  reference::gatherRows(rows(sum), picked, rows(gathered));
  reference::softmax(rows(gathered), rows(soft));
  auto outcome = kernel.run({7, 2}, {bytesOf(x), bytesOf(w), bytesOf(picked)});
  expectClose(valuesOf<float>(outcome.results[0]), widened(norm), "norm");
  expectClose(valuesOf<float>(outcome.results[1]), widened(soft), "softmax");
  EXPECT_EQ(valuesOf<float>(outcome.results[2]), sum);
}

TEST(Rowwise, StaticRows) {
  CompiledKernel kernel = compileOrDie(R"mlir(
transformer.kernel @k(%x: tensor<5x9xf32>) -> tensor<5x9xf32> {
  %y = transformer.add %x, %x : tensor<5x9xf32>
  transformer.yield %y : tensor<5x9xf32>
})mlir",
                                       "native", {{"rows_per_task", 2}});
  std::vector<float> x = randomFloats(45, 41), expected(45);
  for (size_t i = 0; i < x.size(); ++i)
    expected[i] = x[i] + x[i];
  EXPECT_EQ(valuesOf<float>(kernel.run({}, {bytesOf(x)}).results[0]), expected);
}

TEST(Rowwise, ManyUsesOfOneValueAreEmittedOnce) {
  // Each line doubles: 2^40 evaluations if uses were followed one by one.
  std::string body = "%v0 = transformer.add %x, %x : !rows\n";
  for (int i = 1; i < 40; ++i)
    body += fmt::format("%v{0} = transformer.add %v{1}, %v{1} : !rows\n", i, i - 1);
  body += "%y = transformer.scale %v39 {factor = 2.0 : f64} : !rows";
  CompiledKernel kernel = compileOrDie(rowsKernel(7, "", body), "native");
  std::vector<float> x = randomFloats(7, 51), expected(7);
  for (size_t i = 0; i < 7; ++i)
    expected[i] = x[i] * 0x1p41f;
  EXPECT_EQ(valuesOf<float>(kernel.run({1}, {bytesOf(x)}).results[0]), expected);
}

TEST(Rowwise, IllegalSchedulesAreRefused) {
  std::string text = rowsKernel(7, "", "%y = transformer.add %x, %x : !rows");
  EXPECT_THAT(errorOf(text, {{"rows_per_task", 0}}),
              testing::AllOf(HasSubstr("@k, knob rows_per_task"), HasSubstr("it is 0"),
                             HasSubstr("nearest legal value is 1")));
  EXPECT_THAT(errorOf(text, {{"row_per_task", 4}}),
              testing::AllOf(HasSubstr("no such knob"), HasSubstr("known: rows_per_task")));
  EXPECT_THAT(errorOf(packKernel(ElementType::Q4_1, 40, 64), {{"rows_per_task", 30}}),
              testing::AllOf(HasSubstr("multiple of 16"), HasSubstr("it is 30"),
                             HasSubstr("nearest legal value is 32")));
  EXPECT_THAT(
      errorOf(packKernel(ElementType::Q4_1, 40, 64), {{"rows_per_task", 32}, {"unroll", 2}}),
      testing::AllOf(HasSubstr("knob unroll"), HasSubstr("nearest legal value is 1")));
}

TEST(Rowwise, UnsupportedKernelsAreRefused) {
  EXPECT_THAT(errorOf(R"mlir(
transformer.kernel @k(%x: tensor<5x8xf32>, %w: tensor<8x8xf32>) -> tensor<5x8xf32> {
  %y = transformer.mlp %x up(%w) down(%w) <relu>
      : (tensor<5x8xf32>, tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<5x8xf32>
  transformer.yield %y : tensor<5x8xf32>
})mlir"),
              testing::AllOf(HasSubstr("transformer.mlp"), HasSubstr("composite")));
  EXPECT_THAT(errorOf(R"mlir(
transformer.kernel @k(%x: tensor<5x9xf32>, %rows: tensor<5xi32>) -> tensor<5x9xf32> {
  %s = transformer.softmax %x : tensor<5x9xf32>
  %g = transformer.gather_rows %s, %rows : (tensor<5x9xf32>, tensor<5xi32>) -> tensor<5x9xf32>
  %y = transformer.add %s, %g : tensor<5x9xf32>
  transformer.yield %y : tensor<5x9xf32>
})mlir"),
              testing::AllOf(HasSubstr("transformer.softmax"), HasSubstr("gathered")));
  EXPECT_THAT(
      errorOf(R"mlir(
!packed = tensor<16x32xf32, #transformer.layout<interleaved, rows = 16>>
transformer.kernel @k(%w: tensor<16x32xf32>, %ids: tensor<5xi32>) -> tensor<5x32xf32> {
  %p = transformer.pack %w : tensor<16x32xf32> to !packed
  %y = transformer.embedding %ids, %p : (tensor<5xi32>, !packed) -> tensor<5x32xf32>
  transformer.yield %y : tensor<5x32xf32>
})mlir"),
      testing::AllOf(HasSubstr("transformer.embedding"), HasSubstr("computed in the same kernel")));
  EXPECT_THAT(errorOf(R"mlir(
!w = tensor<16x32x!transformer.quant<q8_0>>
!planes = tensor<16x32x!transformer.quant<q8_0>, #transformer.layout<planes>>
transformer.kernel @k(%w: !w) -> !planes {
  %p = transformer.pack %w : !w to !planes
  transformer.yield %p : !planes
})mlir"),
              testing::AllOf(HasSubstr("@k, transformer.pack"),
                             HasSubstr("its result has the layout planes, and weights are read in "
                                       "interleaved alone")));
}
