// Norms of the heads of a row against the reference: in a kernel of their own, before a matmul, and
// after one, where a tile holds whole heads.
#include "KernelRunner.h"

#include "kernelforge/kernels/Reference.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <numeric>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// `%y` is the norm of `%x`'s heads, with the weight %a and, of a layer norm, the bias %b.
std::string normText(NormKind kind, int64_t heads, int64_t dim, double offset,
                     const std::string &from = "%x", const std::string &to = "%y") {
  const std::string rows = rowsText(heads * dim), vector = fmt::format("tensor<{}xf32>", dim);
  const bool isRms = kind == NormKind::Rms;
  return fmt::format("{} = transformer.{} {}, %a{} {{epsilon = 1.0e-5 : f64, heads = {}, offset = "
                     "{:.1f} : f64}} : "
                     "({}, {}{}) -> {}\n",
                     to, isRms ? "rms_norm" : "layer_norm", from, isRms ? "" : ", %b", heads,
                     offset, rows, vector, isRms ? "" : ", " + vector, rows);
}

std::string kernelText(int64_t rows, const std::string &arguments, const std::string &results,
                       const std::string &body) {
  return fmt::format("transformer.kernel @k(%tokens: index {{transformer.size = "
                     "#transformer.size<\"tokens\", 1 to {}>}}, {}) {} {{\n{}}}",
                     rows <= 4 ? 4 : 512, arguments, results, body);
}

/// The same by the reference: rows of heads * dim.
std::vector<float> normed(NormKind kind, std::vector<float> x, int64_t heads, int64_t dim,
                          double offset, const std::vector<float> &a, const std::vector<float> &b) {
  const auto rows = static_cast<int64_t>(x.size()) / (heads * dim);
  std::vector<float> out(x.size());
  const auto in =
      reference::headsOf(reference::denseRows<const float>(x.data(), rows, heads * dim), heads);
  const auto to = reference::headsOf(reference::denseRows(out.data(), rows, heads * dim), heads);
  if (kind == NormKind::Rms)
    reference::rmsNorm(in, a, 1e-5, to, reference::Precision::Wide, offset);
  else
    reference::layerNorm(in, a, b, 1e-5, to, reference::Precision::Wide, offset);
  return out;
}

/// x [m, k] times a weight [n, k] of f32.
std::vector<float> product(const std::vector<float> &x, const Bytes &weight, int64_t n, int64_t k) {
  const std::vector<float> w = valuesOf<float>(weight);
  const auto m = static_cast<int64_t>(x.size()) / k;
  std::vector<float> y(m * n);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t l = 0; l < k; ++l)
        sum += double(x[i * k + l]) * double(w[j * k + l]);
      y[i * n + j] = static_cast<float>(sum);
    }
  return y;
}

struct HeadCase {
  int64_t heads, dim;
};
/// Heads of whole vectors, of parts of one, that begin anywhere, and of a single number.
constexpr HeadCase headCases[] = {{9, 64}, {3, 16}, {2, 8}, {5, 24}, {3, 7}, {2, 33}, {4, 1}};

} // namespace

TEST(HeadNorm, Alone) {
  for (NormKind kind : {NormKind::Rms, NormKind::Layer})
    for (auto [heads, dim] : headCases)
      for (double offset : {0.0, 1.0})
        for (const std::string &level : everyRunnableLevel()) {
          const int64_t rows = 3, width = heads * dim;
          CompiledKernel kernel =
              compileOrDie(kernelText(rows,
                                      fmt::format("%x: {}, %a: tensor<{}xf32>, %b: tensor<{}xf32>",
                                                  rowsText(width), dim, dim),
                                      "-> " + rowsText(width),
                                      normText(kind, heads, dim, offset) +
                                          "transformer.yield %y : " + rowsText(width) + "\n"),
                           level);
          std::vector<float> x = randomFloats(rows * width, 1, 3.0f), a = randomFloats(dim, 2),
                             b = randomFloats(dim, 3);
          auto outcome = kernel.run({rows}, {bytesOf(x), bytesOf(a), bytesOf(b)});
          expectClose(valuesOf<float>(outcome.results[0]),
                      widened(normed(kind, x, heads, dim, offset, a, b)),
                      fmt::format("{} norm of {} heads of {}, offset {}, on {}",
                                  kind == NormKind::Rms ? "rms" : "layer", heads, dim, offset,
                                  level));
        }
}

TEST(HeadNorm, BeforeAMatmul) {
  for (NormKind kind : {NormKind::Rms, NormKind::Layer})
    for (auto [heads, dim] : {HeadCase{3, 16}, {5, 24}, {2, 33}})
      for (int64_t m : {1, 13})
        for (const std::string &level : runnableLevels()) {
          const int64_t k = heads * dim, n = 20;
          const std::string weight = weightText(ElementType::F32, n, k, true);
          const std::string text = kernelText(
              m,
              fmt::format("%x: {}, %a: tensor<{}xf32>, %b: tensor<{}xf32>, %w: {}", rowsText(k),
                          dim, dim, weight),
              "-> " + rowsText(n),
              normText(kind, heads, dim, 1) +
                  fmt::format("%z = transformer.matmul %y weights(%w) : ({0}, {1}) -> {2}\n"
                              "transformer.yield %z : {2}\n",
                              rowsText(k), weight, rowsText(n)));
          std::vector<float> x = randomFloats(m * k, 1), a = randomFloats(dim, 2),
                             b = randomFloats(dim, 3);
          const Bytes w = randomWeight(ElementType::F32, n, k, 4);
          auto outcome = compileOrDie(text, level)
                             .run({m}, {bytesOf(x), bytesOf(a), bytesOf(b),
                                        packedWeight(ElementType::F32, w, n, k)});
          expectClose(valuesOf<float>(outcome.results[0]),
                      widened(product(normed(kind, x, heads, dim, 1, a, b), w, n, k)), text, 1e-11);
        }
}

namespace {

/// As in a decoder: queries and keys of one matmul are normed head by head, rotated, and given back
/// or appended. Tasks have `blocks` times the columns that hold whole heads.
void checkQueriesAndKeys(NormKind kind, int64_t dim, int64_t m, int64_t blocks,
                         const std::string &level) {
  const int64_t heads = 5, kvHeads = 3, k = 48, context = 9, slots = 30;
  const int64_t n = heads * dim, kvN = kvHeads * dim, whole = std::lcm<int64_t>(dim, 16);
  const std::string wq = weightText(ElementType::F32, n, k, true),
                    wk = weightText(ElementType::F32, kvN, k, true),
                    cache = fmt::format("!transformer.cache<{}, {}, f32>", kvHeads, dim),
                    indices = "tensor<?xi32, #transformer.dims<\"tokens\">>",
                    table = fmt::format("tensor<{}x{}xf32>", context, dim);
  auto rope = [&](const char *from, const char *to, int64_t width) {
    return fmt::format("{0} = transformer.rope {1}, %p, %t <half_split> {{headDim = {2} : i64}} : "
                       "({3}, {4}, {5}) -> {3}\n",
                       to, from, dim, rowsText(width), indices, table);
  };
  const std::string text = kernelText(
      m,
      fmt::format(
          "%x: {}, %wq: {}, %wk: {}, %a: tensor<{}xf32>, %b: tensor<{}xf32>, %p: {}, %t: {}, "
          "%s: {}, %c: {}",
          rowsText(k), wq, wk, dim, dim, indices, table, indices, cache),
      "-> " + rowsText(n),
      fmt::format("%0:2 = transformer.matmul %x weights(%wq, %wk) : ({}, {}, {}) -> ({}, {})\n",
                  rowsText(k), wq, wk, rowsText(n), rowsText(kvN)) +
          normText(kind, heads, dim, 1, "%0#0", "%1") +
          normText(kind, kvHeads, dim, 1, "%0#1", "%2") + rope("%1", "%3", n) +
          rope("%2", "%4", kvN) +
          fmt::format("transformer.cache_append %4, %s into %c : {}, {}, {}\n"
                      "transformer.yield %3 : {}\n",
                      cache, rowsText(kvN), indices, rowsText(n)));
  std::vector<float> x = randomFloats(m * k, 1), a = randomFloats(dim, 2), b = randomFloats(dim, 3),
                     angles = randomFloats(context * dim, 4), cached = randomFloats(slots * kvN, 5);
  std::vector<int32_t> positions, places;
  for (int64_t r = 0; r < m; ++r) {
    positions.push_back(static_cast<int32_t>(r % context));
    places.push_back(static_cast<int32_t>(r == 1 ? -1 : slots - 1 - r));
  }
  const Bytes q = randomWeight(ElementType::F32, n, k, 6),
              ks = randomWeight(ElementType::F32, kvN, k, 7);
  auto outcome =
      compileOrDie(text, level, {{"nb", blocks * whole}})
          .run({m}, {bytesOf(x), packedWeight(ElementType::F32, q, n, k),
                     packedWeight(ElementType::F32, ks, kvN, k), bytesOf(a), bytesOf(b),
                     bytesOf(positions), bytesOf(angles), bytesOf(places), bytesOf(cached)});
  auto expected = [&](const Bytes &weight, int64_t count) {
    const int64_t width = count * dim;
    std::vector<float> y = normed(kind, product(x, weight, width, k), count, dim, 1, a, b),
                       out(y.size());
    reference::rope(reference::denseRows<const float>(y.data(), m, width), positions,
                    reference::denseRows<const float>(angles.data(), context, dim), dim,
                    RopePairing::HalfSplit, reference::denseRows(out.data(), m, width));
    return out;
  };
  expectClose(valuesOf<float>(outcome.results[0]), widened(expected(q, heads)), text + level,
              1e-11);
  const std::vector<float> keys = expected(ks, kvHeads);
  reference::cacheAppend(
      reference::denseRows<const float>(keys.data(), m, kvN), places,
      {ElementType::F32, reinterpret_cast<std::byte *>(cached.data()), kvHeads, dim});
  expectClose(valuesOf<float>(outcome.arguments[8]), widened(cached), text + level, 1e-11);
}

} // namespace

TEST(HeadNorm, AfterAMatmulThenRotatedAndAppended) {
  for (const std::string &level : everyRunnableLevel())
    for (int64_t dim : {64, 32, 24, 10})
      for (int64_t m : {4, 23}) // weights in registers, and in panels
        checkQueriesAndKeys(dim == 24 ? NormKind::Layer : NormKind::Rms, dim, m, m == 4 ? 2 : 1,
                            level);
}

TEST(HeadNorm, ATileHoldsWholeHeads) {
  const std::string weight = weightText(ElementType::F32, 48, 16, true);
  const std::string text =
      kernelText(8, fmt::format("%x: {}, %a: tensor<24xf32>, %w: {}", rowsText(16), weight),
                 "-> " + rowsText(48),
                 fmt::format("%m = transformer.matmul %x weights(%w) : ({}, {}) -> {}\n",
                             rowsText(16), weight, rowsText(48)) +
                     normText(NormKind::Rms, 2, 24, 0, "%m") +
                     "transformer.yield %y : " + rowsText(48) + "\n");
  for (int64_t nb : {16, 32, 64}) {
    auto kernel = CompiledKernel::compile(text, "avx2", {{"nb", nb}});
    ASSERT_FALSE(kernel) << nb;
    EXPECT_THAT(kernel.error().line(), HasSubstr("nb"));
  }
  EXPECT_TRUE(CompiledKernel::compile(text, "avx2", {{"nb", 48}}));
}

TEST(HeadNorm, OfMoreHeadsThanAreKeptIsRefused) {
  auto errorOf = [](int64_t heads) {
    const int64_t width = 2 * heads;
    auto kernel = CompiledKernel::compile(
        kernelText(1, fmt::format("%x: {}, %a: tensor<2xf32>", rowsText(width)),
                   "-> " + rowsText(width),
                   normText(NormKind::Rms, heads, 2, 0) +
                       "transformer.yield %y : " + rowsText(width) + "\n"),
        "avx2");
    return kernel ? "it compiled" : kernel.error().line();
  };
  EXPECT_THAT(errorOf(4097), HasSubstr("transformer.rms_norm): it norms 4097 heads"));
  EXPECT_EQ(errorOf(4096), "it compiled");
}
