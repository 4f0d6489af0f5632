// Attention by each method that any GPU has: heads of every width, groups, causal and not, windows,
// soft-cap, sinks, rows of several sequences in any order, pages, caches of every type, with
// subgroups and without.
#include "AttentionFixture.h"

#include <algorithm>
#include <fmt/format.h>

using namespace kernelforge;

namespace {

/// Cases that differ in one or two things, for methods that compute all of them.
const std::vector<AttentionCase> cases = {
    {},
    {.dim = 80,
     .valueDim = 80,
     .keys = "bf16",
     .values = "bf16",
     .query = "bf16",
     .result = "bf16"},
    {.dim = 96, .valueDim = 64, .page = 16, .sinks = true, .query = "f16", .result = "f16"},
    {.heads = 3,
     .kvHeads = 1,
     .dim = 128,
     .valueDim = 128,
     .window = 37,
     .keys = "f32",
     .values = "f32"},
    {.heads = 2, .dim = 256, .valueDim = 256, .softcap = 9.0, .causal = false},
    {.heads = 6, .window = 9, .causal = false, .sinks = true, .keys = "q8_0", .values = "q8_0"},
    {.heads = 3,
     .kvHeads = 3,
     .dim = 32,
     .valueDim = 32,
     .page = 8,
     .keys = "q8_0",
     .values = "f16"},
    {.heads = 1, .kvHeads = 1, .dim = 20, .valueDim = 36, .past = 0},
};

/// With more rows than a tile has, of one sequence and of several.
AttentionCase withRows(AttentionCase test, int64_t rows, int64_t sequences) {
  test.rows = rows;
  test.sequences = sequences;
  test.past = std::min<int64_t>(test.past, 21);
  return test;
}

} // namespace

// Few rows: chunks of keys, and all keys in one phase.
TEST_F(AttentionMethods, SplitKeys) {
  auto shared = [](const AttentionCase &test) {
    return fmt::format("method = 1, chunk = 64, threads = 64, unroll = 2, heads = {}",
                       test.heads / test.kvHeads);
  };
  for (const auto &[i, test] : llvm::enumerate(cases))
    expectRight(test, {i % 2 ? "method = 1, chunk = 0, threads = 64, unroll = 1, heads = 1"
                             : shared(test)});
  expectRight(cases[5],
              {shared(cases[5]), "method = 1, chunk = 32, threads = 32, unroll = 1, heads = 3"});
  // Chunks whose keys and values are read at once, and chunks that have all keys of a row or of
  // all.
  AttentionCase narrow{.dim = 32, .valueDim = 32, .sinks = true};
  const std::string atOnce = "method = 1, chunk = 64, threads = 64, unroll = 4, heads = 2";
  expectRight(narrow, {atOnce});
  narrow.past = 20;
  expectRight(narrow, {atOnce, "method = 1, chunk = 256, threads = 64, unroll = 2"});
  takeAway("subgroups");
  for (size_t i : {0, 3, 5})
    expectRight(cases[i], {"method = 1, chunk = 64, threads = 64, unroll = 1, heads = 1"});
}

// More rows than a tile has, of one sequence and of several.
TEST_F(AttentionMethods, TakeTilesOfRows) {
  for (const auto &[i, test] : llvm::enumerate(cases))
    expectRight(withRows(test, 37, 1 + int64_t(i) % 3),
                {i == 0 ? "method = 2, threads = 64, keys = 32"
                        : "method = 2, threads = 64, keys = 8, rows = 2"});
  takeAway("subgroups");
  for (size_t i : {0, 5})
    expectRight(withRows(cases[i], 19, 2), {"method = 2, threads = 32, keys = 8"});
}

// What numerics round is rounded by every method.
TEST_F(AttentionMethods, RoundOperands) {
  for (const char *type : {"f16", "bf16"}) {
    AttentionCase test{.keys = "f32", .values = "q8_0"};
    test.numerics = std::string("multiply = ") + type;
    expectRight(test, {"method = 1, chunk = 64, threads = 64, unroll = 1",
                       "method = 2, threads = 32, keys = 16"});
  }
}
