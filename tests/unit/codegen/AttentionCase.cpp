#include "AttentionCase.h"

#include <algorithm>
#include <numeric>
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace kernelforge {

const Knobs oneRow = {{"query_block", 1}, {"key_block", 32}, {"splits", 1}, {"prefetch", 3}};
const Knobs split = {{"query_block", 1}, {"key_block", 32}, {"splits", 5}, {"split_keys", 16}};
const Knobs blocks = {{"query_block", 7}, {"splits", 1}, {"key_block", 64}, {"prefetch", 0}};

static std::string elementText(ElementType type) {
  const std::string name(info(type).name);
  return info(type).isQuantized() ? fmt::format("!transformer.quant<{}>", name) : name;
}

std::string AttentionCase::name(const std::string &level) const {
  std::string text =
      fmt::format("{}: {}/{} heads of {}/{}, {} rows of {}, {} sequences of {}, {} and {}", level,
                  heads, kvHeads, dim, valueWidth(), rows, info(type).name, lengths.size(),
                  lengths[0], info(keys).name, info(values).name);
  text += fmt::format("{}{}{}{}{}", page ? fmt::format(", pages of {}", page) : "",
                      causal ? ", causal" : "", window ? ", window" : "",
                      softcap > 0 ? ", softcap" : "",
                      fmt::format("{}{}", sinks ? ", sinks" : "", rounds ? ", as bf16" : ""));
  for (const auto &[knob, value] : knobs)
    text += fmt::format(", {} = {}", knob, value);
  return text;
}

std::string AttentionCase::text() const {
  const std::string rowDims = "#transformer.dims<\"rows\">",
                    sequenceDims = "#transformer.dims<\"sequences\">";
  auto cache = [&](ElementType element, int64_t width) {
    return fmt::format("!transformer.cache<{}, {}, {}{}>", kvHeads, width, elementText(element),
                       page ? fmt::format(", page = {}", page) : "");
  };
  const std::string keyCache = cache(keys, dim), valueCache = cache(values, valueWidth());
  const std::string query =
      fmt::format("tensor<?x{}x{}, {}>", heads * dim, elementText(type), rowDims);
  const std::string result =
      fmt::format("tensor<?x{}x{}, {}>", heads * valueWidth(), elementText(type), rowDims);
  const std::string perRow = fmt::format("tensor<?xi32, {}>", rowDims);
  const std::string perSequence = fmt::format("tensor<?xi32, {}>", sequenceDims);
  const std::string table =
      page ? "tensor<?x?xi32, #transformer.dims<\"sequences\", \"pages\">>" : perSequence;
  const std::string sinkVector =
      sinks ? fmt::format("tensor<{}x{}>", heads, elementText(*sinks)) : "";
  const std::string pages =
      page ? "%pages: index {transformer.size = #transformer.size<\"pages\", 1 to 4096>}, " : "";
  return fmt::format(
             "transformer.kernel @attention("
             "%rows: index {{transformer.size = #transformer.size<\"rows\", 1 to {}>}}, "
             "%seqs: index {{transformer.size = #transformer.size<\"sequences\", 1 to 8>}}, {}"
             "%q: {}, %k: {}, %v: {}, %positions: {}, %sequences: {}, %table: {}, %lengths: {}{}) "
             "-> {} {{\n",
             rows, pages, query, keyCache, valueCache, perRow, perRow, table, perSequence,
             sinks ? ", %sinks: " + sinkVector : "", result) +
         fmt::format(
             "  %y = transformer.attention %q, %k, %v positions(%positions) "
             "sequences(%sequences) table(%table) lengths(%lengths){} {{heads = {} : i64, "
             "scale = {:.17e} : f64, causal = {}, window = {} : i64, softcap = {:.17e} : f64{}}} : "
             "({}, {}, {}, {}, {}, {}, {}{}) -> {}\n",
             sinks ? " sinks(%sinks)" : "", heads, scale(), causal, window, softcap,
             rounds ? ", numerics = #transformer.numerics<multiply = bf16, accumulate = f32>" : "",
             query, keyCache, valueCache, perRow, perRow, table, perSequence,
             sinks ? ", " + sinkVector : "", result) +
         fmt::format("  transformer.yield %y : {}\n}}\n", result);
}

reference::AttentionInputs AttentionData::inputs(const AttentionCase &p) {
  reference::AttentionInputs in;
  in.query = reference::denseRows<const float>(query.data(), p.rows, p.heads * p.dim);
  in.keys = {p.keys, keys.data(), p.kvHeads, p.dim, p.page};
  in.values = {p.values, values.data(), p.kvHeads, p.valueWidth(), p.page};
  in.positions = positions;
  in.sequences = sequences;
  in.table = table;
  in.tableWidth = tableWidth;
  in.lengths = lengths;
  in.heads = p.heads;
  in.scale = p.scale();
  in.causal = p.causal;
  in.window = p.window;
  in.softcap = p.softcap;
  in.numerics = p.rounds ? Numerics::BF16 : Numerics::F32;
  in.sinks = sinks;
  return in;
}

std::vector<int64_t> AttentionData::sizes(const AttentionCase &p) const {
  std::vector<int64_t> sizes{p.rows, static_cast<int64_t>(p.lengths.size())};
  if (p.page)
    sizes.push_back(tableWidth);
  return sizes;
}

std::vector<Bytes> AttentionData::arguments(const AttentionCase &p) const {
  std::vector<Bytes> all{
      encoded(p.type, query), keys,           values,          bytesOf(positions),
      bytesOf(sequences),     bytesOf(table), bytesOf(lengths)};
  if (p.sinks)
    all.push_back(encoded(*p.sinks, sinks));
  return all;
}

AttentionData AttentionData::only(AttentionCase &p, const std::vector<int64_t> &rows) const {
  AttentionData some = *this;
  const int64_t width = p.heads * p.dim;
  some.query.clear();
  some.positions.clear();
  some.sequences.clear();
  for (int64_t r : rows) {
    some.query.insert(some.query.end(), query.begin() + r * width, query.begin() + (r + 1) * width);
    some.positions.push_back(positions[r]);
    some.sequences.push_back(sequences[r]);
  }
  p.rows = static_cast<int64_t>(rows.size());
  return some;
}

Bytes encoded(ElementType type, const std::vector<float> &values) {
  Bytes bytes(*rowBytes(type, values.size()));
  quantizeRow(type, values.data(), values.size(), bytes.data());
  return bytes;
}

std::vector<float> decoded(ElementType type, const Bytes &bytes) {
  std::vector<float> values(bytes.size() / info(type).blockBytes);
  dequantizeRow(type, bytes.data(), values.size(), values.data());
  return values;
}

/// So many slots of random values; those that are not seen are all ones.
static Bytes randomCache(const CacheSlot &slot, const std::vector<bool> &seen, uint64_t seed) {
  const size_t width = slot.elements();
  const std::vector<float> values = randomFloats(seen.size() * width, seed);
  Bytes cache(seen.size() * slot.bytes(), std::byte(0xff));
  for (size_t i = 0; i < seen.size(); ++i)
    if (seen[i])
      slot.write(values.data() + i * width, cache.data() + i * slot.bytes());
  return cache;
}

AttentionData makeAttentionData(const AttentionCase &p, uint64_t seed) {
  std::mt19937_64 generator(seed);
  auto upTo = [&](int64_t last) {
    return std::uniform_int_distribution<int32_t>(0, int32_t(last))(generator);
  };
  AttentionData data;
  data.lengths = p.lengths;
  const auto count = int64_t(p.lengths.size());
  int32_t slots = 3;
  if (p.page == 0) {
    data.table.resize(count);
    for (int64_t s = count - 1; s >= 0; --s) {
      data.table[s] = slots;
      slots += p.lengths[s] + upTo(5);
    }
  } else {
    auto pagesOf = [&](int32_t length) { return (length + p.page - 1) / p.page; };
    int64_t all = 2;
    for (int32_t length : p.lengths) {
      all += pagesOf(length);
      data.tableWidth = std::max(data.tableWidth, pagesOf(length) + 1);
    }
    std::vector<int32_t> free(all);
    std::iota(free.begin(), free.end(), 0);
    std::shuffle(free.begin(), free.end(), generator);
    data.table.assign(count * data.tableWidth, -1);
    for (int64_t s = 0; s < count; ++s)
      for (int64_t i = 0; i < pagesOf(p.lengths[s]); ++i, free.pop_back())
        data.table[s * data.tableWidth + i] = free.back();
    slots = static_cast<int32_t>(all * p.page);
  }
  for (int64_t r = 0; r < p.rows; ++r) {
    const int32_t s = p.whole ? 0 : upTo(count - 1), length = p.lengths[s];
    data.sequences.push_back(s);
    data.positions.push_back(p.whole ? length - int32_t(p.rows - r) : upTo(length) - 1);
  }
  data.query = decoded(p.type, encoded(p.type, randomFloats(p.rows * p.heads * p.dim, seed + 1)));
  if (p.sinks)
    data.sinks = decoded(*p.sinks, encoded(*p.sinks, randomFloats(p.heads, seed + 4)));
  data.slots = slots;
  return withSeenSlots(p, std::move(data), seed);
}

AttentionData withSeenSlots(const AttentionCase &p, AttentionData data, uint64_t seed) {
  std::vector<bool> seen(data.slots);
  auto inputs = data.inputs(p);
  for (int64_t r = 0; r < p.rows; ++r)
    for (auto [position, end] = inputs.visible(r); position < end; ++position)
      seen[inputs.slot(data.sequences[r], position)] = true;
  data.keys = randomCache(p.keySlot(), seen, seed + 2);
  data.values = randomCache(p.valueSlot(), seen, seed + 3);
  return data;
}

std::vector<float> runAttention(const CompiledKernel &kernel, const AttentionCase &p,
                                const AttentionData &data) {
  return decoded(p.type, kernel.run(data.sizes(p), data.arguments(p)).results[0]);
}

void checkAttention(const CompiledKernel &kernel, const AttentionCase &p, AttentionData &data,
                    const std::string &name, double nmse) {
  std::vector<float> expected(p.rows * p.heads * p.valueWidth());
  reference::attention(data.inputs(p), reference::denseRows<float>(expected.data(), p.rows,
                                                                   p.heads * p.valueWidth()));
  expectClose(runAttention(kernel, p, data), {expected.begin(), expected.end()}, name, nmse);
}

void checkRowsAlone(const AttentionCase &p, const std::string &level) {
  const CompiledKernel kernel = compileOrDie(p.text(), level, p.knobs);
  const AttentionData data = makeAttentionData(p, 3);
  const std::vector<float> together = runAttention(kernel, p, data);
  const int64_t width = p.heads * p.dim;
  for (int64_t r : {int64_t(0), p.rows / 3, p.rows - 1}) {
    AttentionCase one = p;
    const AttentionData alone = data.only(one, {r});
    const std::vector<float> result = runAttention(kernel, one, alone);
    EXPECT_TRUE(std::equal(result.begin(), result.end(), together.begin() + r * width))
        << p.name(level) << ", row " << r;
  }
}

} // namespace kernelforge
