// Rowwise kernels four columns at a time: rows that are kept in registers and rows that are not,
// heads that lanes share, elements that are spread over the grid.
#include "MethodFixture.h"

#include <fmt/format.h>

using namespace kernelforge;

namespace {

class RowwiseMethods : public MethodTest {
protected:
  /// With subgroups and without.
  void expectBothRight(const std::string &text) {
    expectRight(text);
    takeAway("subgroups");
    expectRight(text);
  }
};

const std::vector<std::string> byThreads = {"method = 1, threads = 64, quads = 1",
                                            "method = 1, threads = 256, quads = 1"};

std::string rows(int64_t count, int64_t width, const std::string &type) {
  return fmt::format("tensor<{}x{}x{}>", count, width, type);
}

/// Norms and softmax of rows of one width; `type` is that of input and results.
PinnedKernel statistics(int64_t count, int64_t width, const std::string &type, int64_t heads) {
  const std::string x = rows(count, width, type);
  const std::string vector = fmt::format("tensor<{}xf32>", width / heads);
  const std::string attributes =
      fmt::format("epsilon = 1.0e-5, offset = 0.5{}",
                  heads > 1 ? fmt::format(", heads = {}", heads) : std::string());
  return {{{"x", x}, {"w", vector}, {"b", vector}},
          fmt::format("%a = transformer.rms_norm %x, %w {{{0}}} : ({1}, {2}) -> {1}\n"
                      "%c = transformer.layer_norm %x, %w, %b {{{0}}} : ({1}, {2}, {2}) -> {1}\n"
                      "%s = transformer.softmax %x : {1}\n%d = transformer.mul %s, %c : {1}",
                      attributes, x, vector),
          {{"a", x}, {"d", x}}};
}

} // namespace

// Widths: one quad short of the threads, more than all threads have, no multiple of four, and more
// than is kept.
TEST_F(RowwiseMethods, KeepRowsForTheirStatistics) {
  for (int64_t width : {252, 576, 99, 2080})
    expectRight(statistics(3, width, width == 576 ? "f16" : "f32", 1).text(byThreads));
  takeAway("subgroups");
  for (int64_t width : {252, 576})
    expectRight(statistics(3, width, "bf16", 1).text(byThreads));
}

// Of 16, which lanes share, of 24, which they do not, and of 5.
TEST_F(RowwiseMethods, NormEachHead) {
  for (auto [width, heads] : {std::pair{80, 5}, std::pair{144, 6}, std::pair{35, 7}})
    expectRight(statistics(3, width, "f32", heads).text(byThreads));
  takeAway("subgroups");
  expectRight(statistics(3, 80, "f32", 5).text(byThreads));
}

// The pair of a column that is rotated has the statistics of the same head.
// Heads that the lanes of any subgroup share, and wider ones; appended in blocks, too.
TEST_F(RowwiseMethods, RotateNormedHeads) {
  const std::tuple<int64_t, const char *, bool> all[] = {{16, "half_split", false},
                                                         {16, "half_split", true},
                                                         {16, "interleaved", false},
                                                         {32, "interleaved", true}};
  for (const auto &[dim, pairing, inBlocks] : all) {
    const int64_t heads = 96 / dim;
    PinnedKernel kernel = {
        {{"x", rows(5, 96, "f32")},
         {"w", fmt::format("tensor<{}xf32>", dim)},
         {"p", "tensor<5xi32>"},
         {"t", fmt::format("tensor<64x{}xf32>", dim / 2)},
         {"c", fmt::format("!transformer.cache<{}, {}, f16>", heads, dim)},
         {"slots", "tensor<5xi32>"}},
        fmt::format("%n = transformer.rms_norm %x, %w {{epsilon = 1.0e-5, heads = {1}}} : "
                    "(tensor<5x96xf32>, tensor<{0}xf32>) -> tensor<5x96xf32>\n"
                    "%y = transformer.rope %n, %p, %t <{2}> {{headDim = {0}}} : "
                    "(tensor<5x96xf32>, tensor<5xi32>, "
                    "tensor<64x{3}xf32>) -> tensor<5x96xf32>\n"
                    "transformer.cache_append %y, %slots into %c : "
                    "!transformer.cache<{1}, {0}, f16>, tensor<5x96xf32>, tensor<5xi32>",
                    dim, heads, pairing, dim / 2),
        {{"y", rows(5, 96, "f32")}}};
    if (inBlocks) {
      const std::string cache = "!transformer.cache<3, 32, !transformer.quant<q8_0>>";
      kernel.arguments.emplace_back("q", cache);
      kernel.body += "\ntransformer.cache_append %n, %slots into %q : " + cache +
                     ", tensor<5x96xf32>, tensor<5xi32>";
    }
    expectBothRight(kernel.text({byThreads[0]}));
  }
}

// Rows of two widths, appended in blocks, too, of a number that nothing divides and of one that
// follows a size.
TEST_F(RowwiseMethods, SpreadElements) {
  for (const char *count : {"7", "?"}) {
    auto of = [&](const std::string &width) {
      return fmt::format("tensor<{}x{}{}>", count, width,
                         *count == '?' ? ", #transformer.dims<\"n\">" : "");
    };
    PinnedKernel kernel = {
        {{"x", of("68xf16")},
         {"z", of("64xf32")},
         {"slots", fmt::format("tensor<{}xi32{}>", count,
                               *count == '?' ? ", #transformer.dims<\"n\">" : "")},
         {"q", "!transformer.cache<2, 32, !transformer.quant<q8_0>>"}},
        fmt::format("%a = transformer.activation %x <gelu> : {0}\n%y = transformer.add %a, %x : "
                    "{0}\n%s = transformer.scale %z {{factor = 2.0, softcap = 3.0}} : {1}\n"
                    "transformer.cache_append %s, %slots into %q : !transformer.cache<2, 32, "
                    "!transformer.quant<q8_0>>, {1}, {2}",
                    of("68xf16"), of("64xf32"),
                    fmt::format("tensor<{}xi32{}>", count,
                                *count == '?' ? ", #transformer.dims<\"n\">" : "")),
        {{"y", of("68xf16")}, {"s", of("64xf32")}}};
    if (*count == '?')
      kernel.arguments.insert(
          kernel.arguments.begin(),
          {"n", "index {transformer.size = #transformer.size<\"n\", 1 to 512>}"});
    const std::string text =
        kernel.text({"method = 1, threads = 64, quads = 1", "method = 1, threads = 32, quads = 3"});
    for (int64_t n : {1, 131})
      if (*count == '?')
        expectRight(text, {.sizes = {{"n", n}}});
      else if (n == 1)
        expectRight(text);
  }
}

// Several quads, or columns, of a thread: of rows that a workgroup has parts of, of one row, of a
// number that follows a size; the last ones are not all there.
TEST_F(RowwiseMethods, ReadAllQuadsBeforeAnyIsStored) {
  const std::vector<std::string> schedules = {"method = 1, threads = 32, quads = 2",
                                              "method = 1, threads = 64, quads = 3",
                                              "method = 1, threads = 128, quads = 4"};
  for (auto [count, width] :
       {std::pair{"7", 96}, {"1", 4096}, {"16", 1024}, {"5", 99}, {"?", 96}}) {
    const bool follows = *count == '?';
    auto of = [&](const std::string &type, const std::string &columns) {
      return fmt::format("tensor<{}x{}{}{}>", count, columns, type,
                         follows ? ", #transformer.dims<\"n\">" : "");
    };
    const std::string x = of("bf16", fmt::format("{}x", width)), places = of("", "i32");
    const int64_t dim = width % 4 == 0 ? 32 : 33;
    const std::string cache = fmt::format("!transformer.cache<{}, {}, f16>", width / dim, dim);
    PinnedKernel kernel = {
        {{"x", x},
         {"z", x},
         {"p", places},
         {"t", "tensor<64x16xf32>"},
         {"c", cache},
         {"slots", places}},
        fmt::format("%a = transformer.activation %z <silu> : {0}\n"
                    "%y = transformer.rope %x, %p, %t <half_split> {{headDim = {1}}} : "
                    "({0}, {2}, tensor<64x16xf32>) -> {0}\n"
                    "%s = transformer.mul %a, %y : {0}\n"
                    "transformer.cache_append %y, %slots into %c : {3}, {0}, {2}",
                    x, dim, places, cache),
        {{"s", x}}};
    if (follows)
      kernel.arguments.insert(
          kernel.arguments.begin(),
          {"n", "index {transformer.size = #transformer.size<\"n\", 1 to 512>}"});
    for (int64_t n : {1, 131})
      if (follows)
        expectRight(kernel.text(schedules), {.sizes = {{"n", n}}});
      else if (n == 1)
        expectRight(kernel.text(schedules));
  }
}
