#include "AttentionFixture.h"

#include <algorithm>
#include <fmt/format.h>
#include <numeric>
#include <random>

namespace kernelforge {

static std::string cacheText(int64_t heads, int64_t dim, const std::string &type, int64_t page) {
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

static void makeRagged(const AttentionCase &test, FunctionData &data) {
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

void AttentionMethods::expectRight(const AttentionCase &test,
                                   const std::vector<std::string> &schedules) {
  MethodTest::expectRight(
      test.text(schedules),
      {.past = test.past, .change = [&](FunctionData &data) { makeRagged(test, data); }});
}

} // namespace kernelforge
