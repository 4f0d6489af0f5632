// Numbers of 16 bits in memory, bit by bit: every one of them widened, and f32 rounded to them
// where it is stored and where a cast rounds it.
#include "KernelRunner.h"

#include "kernelforge/kernels/Reference.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

constexpr ElementType narrowTypes[] = {ElementType::F16, ElementType::BF16};

std::string nameOf(ElementType type) { return std::string(info(type).name); }

/// A kernel of rows of `width`. `body` computes %y from %x; IN and OUT are their types.
std::string kernelText(std::string body, int64_t rows, int64_t width, const std::string &in,
                       const std::string &out) {
  auto replace = [&](std::string_view word, const std::string &with) {
    for (size_t at; (at = body.find(word)) != std::string::npos;)
      body.replace(at, word.size(), with);
  };
  body = "transformer.kernel @k(%x: IN) -> OUT {\n" + body + "\ntransformer.yield %y : OUT\n}";
  replace("IN", fmt::format("tensor<{}x{}x{}>", rows, width, in));
  replace("OUT", fmt::format("tensor<{}x{}x{}>", rows, width, out));
  return body;
}

/// Numbers at which rounding is decided, both signs, then any bits.
std::vector<float> decisiveFloats(size_t count) {
  std::vector<float> values;
  const float infinity = std::numeric_limits<float>::infinity();
  for (float x : {0.0f, 1.0f, infinity, 65504.0f, 65519.99f, 65520.0f, 0x1p-14f, 0x1p-24f, 0x1p-25f,
                  0x1.8p-25f, 0x1p-126f, 0x1p-133f, 0x1p-134f, 0x1.8p-134f, 0x1p-149f, 0x1.fep127f,
                  0x1.fefffep127f, 0x1.ffp127f, 0x1.fffffep127f})
    for (float sign : {1.0f, -1.0f})
      values.push_back(sign * x);
  for (uint32_t bits : {0x7fc00000u, 0x7f800001u, 0xff800001u, 0x7fffffffu, 0xffc05a5au})
    values.push_back(std::bit_cast<float>(bits)); // NaN, quiet and not
  for (int exponent = -30; exponent <= 16; ++exponent)
    for (int odd : {0, 1}) // ties of f16 and bf16, and their neighbours
      for (float digits : {1 + 0x1p-11f, 1 + 0x1p-8f})
        for (float x : {digits, std::nextafter(digits, 0.0f), std::nextafter(digits, 2.0f)})
          values.push_back(std::ldexp(x + float(odd) * (digits - 1) * 2, exponent));
  std::mt19937 random(7);
  while (values.size() < count)
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(random())));
  return values;
}

constexpr int64_t rows = 61, width = 69; // whole vectors, and a tail

} // namespace

TEST(Numbers, AreRoundedToNearestEvenWhereTheyAreStored) {
  const std::vector<float> values = decisiveFloats(rows * width);
  ASSERT_EQ(values.size(), static_cast<size_t>(rows * width));
  for (const std::string &level : runnableLevels())
    for (ElementType type : narrowTypes) {
      SCOPED_TRACE(level + " " + nameOf(type));
      const CompiledKernel kernel = compileOrDie(
          kernelText("%y = transformer.cast %x : IN to OUT", rows, width, "f32", nameOf(type)),
          level);
      const auto out =
          valuesOf<uint16_t>(kernel.run({}, {bytesOf(values)}, /*alignment=*/2).results[0]);
      std::vector<uint16_t> right(values.size());
      quantizeRow(type, values.data(), values.size(), reinterpret_cast<std::byte *>(right.data()));
      for (size_t i = 0; i < values.size(); ++i)
        ASSERT_EQ(out[i], right[i])
            << fmt::format("{} ({:08x})", values[i], std::bit_cast<uint32_t>(values[i]));
    }
}

TEST(Numbers, ACastRoundsInTheMiddleOfAKernel) {
  const std::vector<float> values = decisiveFloats(rows * width);
  for (const std::string &level : runnableLevels())
    for (ElementType type : narrowTypes) {
      SCOPED_TRACE(level + " " + nameOf(type));
      const std::string middle = fmt::format("tensor<{}x{}x{}>", rows, width, nameOf(type));
      const CompiledKernel kernel =
          compileOrDie(kernelText(fmt::format("%a = transformer.cast %x : IN to {0}\n"
                                              "%y = transformer.cast %a : {0} to OUT",
                                              middle),
                                  rows, width, "f32", "f32"),
                       level);
      const auto out = valuesOf<uint32_t>(kernel.run({}, {bytesOf(values)}).results[0]);
      std::vector<std::byte> narrow(values.size() * 2);
      std::vector<float> right(values.size());
      quantizeRow(type, values.data(), values.size(), narrow.data());
      dequantizeRow(type, narrow.data(), values.size(), right.data());
      for (size_t i = 0; i < values.size(); ++i)
        ASSERT_EQ(out[i], std::bit_cast<uint32_t>(right[i])) << values[i];
    }
}

TEST(Numbers, AreWidenedExactly) {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i)
    all[i] = static_cast<uint16_t>(i);
  for (const std::string &level : runnableLevels())
    for (ElementType type : narrowTypes) {
      SCOPED_TRACE(level + " " + nameOf(type));
      const CompiledKernel kernel = compileOrDie(
          kernelText("%y = transformer.cast %x : IN to OUT", 256, 256, nameOf(type), "f32"), level);
      const auto out =
          valuesOf<uint32_t>(kernel.run({}, {bytesOf(all)}, /*alignment=*/2).results[0]);
      std::vector<float> right(all.size());
      dequantizeRow(type, reinterpret_cast<const std::byte *>(all.data()), all.size(),
                    right.data());
      for (size_t i = 0; i < all.size(); ++i) {
        if (!std::isnan(right[i])) // hardware makes NaN quiet
          ASSERT_EQ(out[i], std::bit_cast<uint32_t>(right[i])) << all[i];
        else
          ASSERT_TRUE(std::isnan(std::bit_cast<float>(out[i]))) << all[i];
      }
    }
}

TEST(Numbers, RowsOfThemAreMultipliedByEverySchedule) {
  constexpr int64_t m = 7, k = 37, n = 21;
  const std::vector<float> values = randomFloats(m * k, 3), weights = randomFloats(n * k, 4),
                           bias = randomFloats(n, 5);
  for (ElementType type : narrowTypes) {
    auto narrowed = [&](const std::vector<float> &from) {
      Bytes bytes(from.size() * 2);
      quantizeRow(type, from.data(), from.size(), bytes.data());
      return bytes;
    };
    auto exact = [&](const std::vector<float> &from) {
      std::vector<float> to(from.size());
      dequantizeRow(type, narrowed(from).data(), to.size(), to.data());
      return to;
    };
    const std::string t = nameOf(type);
    const std::string text = fmt::format(
        "transformer.kernel @k(%x: tensor<{0}x{1}x{3}>, %w: {4}, %b: tensor<{2}x{3}>) -> "
        "tensor<{0}x{2}xf32> {{\n"
        "  %y = transformer.matmul %x weights(%w) bias(%b) : (tensor<{0}x{1}x{3}>, {4}, "
        "tensor<{2}x{3}>) -> tensor<{0}x{2}xf32>\n"
        "  transformer.yield %y : tensor<{0}x{2}xf32>\n}}",
        m, k, n, t, weightText(type, n, k, true));
    const std::vector<float> exactRows = exact(values), exactBias = exact(bias);
    std::vector<float> right(m * n);
    reference::matmul(reference::denseRows<const float>(exactRows.data(), m, k),
                      {type, narrowed(weights).data(), n, k, WeightLayout::RowMajor}, false,
                      exactBias, reference::denseRows(right.data(), m, n));
    for (const std::string &level : runnableLevels())
      for (const Knobs &knobs :
           {Knobs{{"panel", 0}}, Knobs{{"panel", 1}}, Knobs{{"panel", 0}, {"splits", 2}}}) {
        const CompiledKernel kernel = compileOrDie(text, level, knobs);
        const KernelOutcome outcome = kernel.run(
            {}, {narrowed(values), packedWeight(type, narrowed(weights), n, k), narrowed(bias)},
            /*alignment=*/2);
        expectClose(valuesOf<float>(outcome.results[0]), widened(right),
                    fmt::format("{} {} {}", level, t, kernel.schedule));
      }
    // What is not f32 cannot be read where it lies.
    const auto refused = CompiledKernel::compile(text, "native", {{"panel", 1}, {"pack", 0}});
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().line(), HasSubstr("pack"));
  }
}
