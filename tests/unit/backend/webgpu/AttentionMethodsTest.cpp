// Attention by each method: heads of every width, groups, causal and not, windows, soft-cap, sinks,
// rows of several sequences in any order, pages, caches of every type, with subgroups and without.
#include "MethodFixture.h"

#include "kernelforge/codegen/webgpu/Methods.h"

#include <algorithm>
#include <fmt/format.h>
#include <numeric>
#include <random>
#include <tuple>

using namespace kernelforge;

namespace {

struct AttentionCase {
  int64_t heads = 4, kvHeads = 2, dim = 64, valueDim = 64, rows = 3, sequences = 2, past = 70;
  int64_t page = 0, window = 0;
  double softcap = 0, scale = 0.125;
  bool causal = true, sinks = false;
  std::string keys = "f16", values = "f16", query = "f32", result = "f32";
  std::string numerics = "";

  /// One kernel a schedule.
  std::string text(const std::vector<std::string> &schedules) const;
};

std::string cacheText(int64_t heads, int64_t dim, const std::string &type, int64_t page) {
  return fmt::format("!transformer.cache<{}, {}, {}{}>", heads, dim,
                     type == "q8_0" ? "!transformer.quant<q8_0>" : type,
                     page ? fmt::format(", page = {}", page) : "");
}

std::string AttentionCase::text(const std::vector<std::string> &schedules) const {
  const std::string q = fmt::format("tensor<{}x{}x{}>", rows, heads * dim, query);
  const std::string y = fmt::format("tensor<{}x{}x{}>", rows, heads * valueDim, result);
  const std::string k = cacheText(kvHeads, dim, keys, page);
  const std::string v = cacheText(kvHeads, valueDim, values, page);
  const std::string perRow = fmt::format("tensor<{}xi32>", rows);
  const std::string perSequence = fmt::format("tensor<{}xi32>", sequences);
  const std::string table =
      page ? fmt::format("tensor<{}x{}xi32>", sequences, 512 / page) : perSequence;
  const std::string sinkType = fmt::format("tensor<{}xf32>", heads);
  PinnedKernel kernel;
  kernel.arguments = {
      {"cached", "index {transformer.size = #transformer.size<\"cached\", 1 to 512>}"},
      {"q", q},
      {"k", k},
      {"v", v},
      {"p", perRow},
      {"s", perRow},
      {"t", table},
      {"l", perSequence}};
  if (sinks)
    kernel.arguments.emplace_back("n", sinkType);
  kernel.body = fmt::format(
      "%y = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l){} "
      "{{heads = {}, scale = {:.17e}, causal = {}, window = {}, softcap = {:.17e}, "
      "cached = \"cached\"{}}} : ({}, {}, {}, {}, {}, {}, {}{}) -> {}",
      sinks ? " sinks(%n)" : "", heads, scale, causal, window, softcap,
      numerics.empty() ? "" : ", numerics = #transformer.numerics<" + numerics + ">", q, k, v,
      perRow, perRow, table, perSequence, sinks ? ", " + sinkType : "", y);
  kernel.results = {{"y", y}};
  return kernel.text(schedules);
}

/// Rows in another order than that of their sequences, and every byte of slots that no row sees a
/// one: NaN, whatever the type.
void makeRagged(const AttentionCase &test, FunctionData &data) {
  auto positions = data.arguments[3].indices(), sequences = data.arguments[4].indices(),
       table = data.arguments[5].indices(), lengths = data.arguments[6].indices();
  std::vector<int64_t> order(positions.size());
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(7)); // NOLINT: the same each time
  const std::vector<int32_t> oldPositions(positions.begin(), positions.end());
  const std::vector<int32_t> oldSequences(sequences.begin(), sequences.end());
  std::vector<bool> seen(data.arguments[1].shape[0]);
  const int64_t width = int64_t(table.size()) / int64_t(lengths.size());
  for (size_t r = 0; r < order.size(); ++r) {
    positions[r] = oldPositions[order[r]];
    sequences[r] = oldSequences[order[r]];
    if (test.window > 0 && r % 2 == 0) // so that nobody sees some keys between those of others
      positions[r] %= 5;
    const int64_t own = positions[r] + 1, s = sequences[r];
    const int64_t end = test.causal       ? own
                        : test.window > 0 ? std::min<int64_t>(own, lengths[s])
                                          : lengths[s];
    for (int64_t key = test.window > 0 ? std::max<int64_t>(own - test.window, 0) : 0; key < end;
         ++key)
      seen[test.page ? table[s * width + key / test.page] * test.page + key % test.page
                     : table[s] + key] = true;
  }
  for (size_t i : {1, 2}) {
    TensorData &cache = data.arguments[i];
    const size_t bytes = cache.bytes() / seen.size();
    for (size_t slot = 0; slot < seen.size(); ++slot)
      if (!seen[slot])
        std::fill_n(cache.memory.data() + slot * bytes, bytes, std::byte(0xff));
  }
}

class AttentionMethods : public MethodTest {
protected:
  void expectRight(const AttentionCase &test, const std::vector<std::string> &schedules) {
    MethodTest::expectRight(
        test.text(schedules),
        {.past = test.past, .change = [&](FunctionData &data) { makeRagged(test, data); }});
  }
};

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

// On a device without them, functions that do the same stand for matrices. The first case has
// scores that grow from block to block, so that outputs must be scaled. Heads are narrow: what a
// compiler makes of such functions takes long.
TEST_F(AttentionMethods, MultiplyMatrices) {
  options.target.enabled.emplace_back("subgroup-matrix-f16-16x16x16");
  options.target.enabled.emplace_back(webgpu::emulatedMatrices);
  std::ranges::sort(options.target.enabled);
  const std::string small = "method = 3, rows = 16, subgroups = 1, keys = 16";
  const std::tuple<AttentionCase, std::string> all[] = {
      {{.dim = 16, .valueDim = 16, .scale = 16.0, .query = "f16", .result = "f16"}, small},
      {{.dim = 32, .valueDim = 16, .page = 8, .softcap = 9.0, .keys = "q8_0", .values = "bf16"},
       "method = 3, rows = 16, subgroups = 2, keys = 16"},
      {{.dim = 16, .valueDim = 32, .window = 9, .causal = false, .sinks = true, .keys = "f32"},
       "method = 3, rows = 32, subgroups = 1, keys = 16"}};
  for (auto [test, schedule] : all) {
    test.numerics = "multiply = f16";
    test.heads = 2;
    expectRight(withRows(test, 19, 2), {schedule});
  }
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
