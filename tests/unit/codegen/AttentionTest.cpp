// Attention kernels of both forms against the reference semantics, with NaN in every cache row
// that no query row sees.
#include "KernelRunner.h"

#include "kernelforge/kernels/Reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

/// One problem. Rows go to sequences and positions at random, unless `whole` rows follow each
/// other at the end of the first sequence.
struct Problem {
  int64_t heads = 1, kvHeads = 1, dim = 64, valueDim = 0; ///< valueDim 0: as dim
  int64_t rows = 1;
  std::vector<int32_t> lengths{17};
  bool causal = true;
  int64_t window = 0;
  double softcap = 0;
  bool whole = false;
  Knobs knobs = {};
  int64_t threads = 2;

  int64_t values() const { return valueDim ? valueDim : dim; }
  double scale() const { return 1 / std::sqrt(double(dim)); }
  std::string name(const std::string &level) const {
    std::string text = fmt::format("{}: {}/{} heads of {}/{}, {} rows, {} sequences of {}{}{}{}",
                                   level, heads, kvHeads, dim, values(), rows, lengths.size(),
                                   lengths[0], causal ? ", causal" : "", window ? ", window" : "",
                                   softcap > 0 ? ", softcap" : "");
    for (const auto &[knob, value] : knobs)
      text += fmt::format(", {} = {}", knob, value);
    return text;
  }
};

std::string kernelText(const Problem &p, const std::string &cacheType = "f32",
                       const std::string &type = "f32", const std::string &page = "") {
  const std::string rows = "#transformer.dims<\"rows\">",
                    sequences = "#transformer.dims<\"sequences\">";
  auto cache = [&](int64_t dim) {
    return fmt::format("!transformer.cache<{}, {}, {}{}>", p.kvHeads, dim, cacheType, page);
  };
  const std::string query = fmt::format("tensor<?x{}x{}, {}>", p.heads * p.dim, type, rows);
  const std::string result = fmt::format("tensor<?x{}x{}, {}>", p.heads * p.values(), type, rows);
  const std::string perRow = fmt::format("tensor<?xi32, {}>", rows);
  const std::string perSequence = fmt::format("tensor<?xi32, {}>", sequences);
  const std::string table =
      page.empty() ? perSequence : fmt::format("tensor<?x8xi32, {}>", sequences);
  return fmt::format(
      "transformer.kernel @attention("
      "%rows: index {{transformer.size = #transformer.size<\"rows\", 1 to {6}>}}, "
      "%seqs: index {{transformer.size = #transformer.size<\"sequences\", 1 to 8>}}, "
      "%q: {0}, %k: {1}, %v: {2}, %positions: {3}, %sequences: {3}, %table: {11}, %lengths: {4}) "
      "-> {5} {{\n"
      "  %y = transformer.attention %q, %k, %v positions(%positions) sequences(%sequences) "
      "table(%table) lengths(%lengths) {{heads = {7} : i64, scale = {8:.17e} : f64, "
      "causal = {9}, window = {10} : i64, softcap = {12:.17e} : f64}} : "
      "({0}, {1}, {2}, {3}, {3}, {11}, {4}) -> {5}\n"
      "  transformer.yield %y : {5}\n}}\n",
      query, cache(p.dim), cache(p.values()), perRow, perSequence, result, p.rows, p.heads,
      p.scale(), p.causal, p.window, table, p.softcap);
}

/// Inputs of a problem, and what must come out.
struct Data {
  std::vector<float> query, keys, values;
  std::vector<int32_t> positions, sequences, table, lengths;

  reference::AttentionInputs inputs(const Problem &p) {
    auto view = [&](std::vector<float> &cache, int64_t dim) {
      return reference::CacheView{ElementType::F32, reinterpret_cast<std::byte *>(cache.data()),
                                  p.kvHeads, dim, 0};
    };
    return {reference::denseRows<const float>(query.data(), p.rows, p.heads * p.dim),
            view(keys, p.dim),
            view(values, p.values()),
            positions,
            sequences,
            table,
            1,
            lengths,
            p.heads,
            p.scale(),
            p.causal,
            p.window,
            p.softcap};
  }

  std::vector<Bytes> arguments() const {
    return {bytesOf(query),     bytesOf(keys),  bytesOf(values), bytesOf(positions),
            bytesOf(sequences), bytesOf(table), bytesOf(lengths)};
  }
};

Data makeData(const Problem &p, uint64_t seed) {
  std::mt19937_64 generator(seed);
  auto upTo = [&](int64_t last) {
    return std::uniform_int_distribution<int32_t>(0, int32_t(last))(generator);
  };
  Data data;
  data.lengths = p.lengths;
  // Sequences lie in the cache in another order than they are numbered in, with gaps.
  const auto count = int64_t(p.lengths.size());
  data.table.resize(count);
  int32_t slots = 3;
  for (int64_t s = count - 1; s >= 0; --s) {
    data.table[s] = slots;
    slots += p.lengths[s] + upTo(5);
  }
  for (int64_t r = 0; r < p.rows; ++r) {
    const int32_t s = p.whole ? 0 : upTo(count - 1), length = p.lengths[s];
    data.sequences.push_back(s);
    data.positions.push_back(p.whole ? length - int32_t(p.rows - r) : upTo(length) - 1);
  }
  data.query = randomFloats(p.rows * p.heads * p.dim, seed + 1);
  data.keys = randomFloats(slots * p.kvHeads * p.dim, seed + 2);
  data.values = randomFloats(slots * p.kvHeads * p.values(), seed + 3);

  // What no row sees is NaN.
  std::vector<bool> seen(slots);
  auto inputs = data.inputs(p);
  for (int64_t r = 0; r < p.rows; ++r)
    for (auto [position, end] = inputs.visible(r); position < end; ++position)
      seen[inputs.slot(data.sequences[r], position)] = true;
  for (int64_t slot = 0; slot < slots; ++slot)
    if (!seen[slot]) {
      std::fill_n(data.keys.begin() + slot * p.kvHeads * p.dim, p.kvHeads * p.dim,
                  std::numeric_limits<float>::quiet_NaN());
      std::fill_n(data.values.begin() + slot * p.kvHeads * p.values(), p.kvHeads * p.values(),
                  std::numeric_limits<float>::quiet_NaN());
    }
  return data;
}

std::vector<float> runKernel(const CompiledKernel &kernel, const Problem &p, const Data &data) {
  return valuesOf<float>(
      kernel.run({p.rows, int64_t(p.lengths.size())}, data.arguments()).results[0]);
}

void checkData(const CompiledKernel &kernel, const Problem &p, Data &data, const std::string &name,
               double nmse = 1e-11) {
  std::vector<float> expected(p.rows * p.heads * p.values());
  reference::attention(data.inputs(p),
                       reference::denseRows<float>(expected.data(), p.rows, p.heads * p.values()));
  expectClose(runKernel(kernel, p, data), {expected.begin(), expected.end()}, name, nmse);
}

/// Runs a problem on every level against the reference, and the same kernel with other rows and
/// lengths.
void check(const Problem &p, const std::vector<int64_t> &moreRows = {},
           const std::vector<int32_t> &moreLengths = {}) {
  std::vector<int64_t> allRows{p.rows};
  allRows.insert(allRows.end(), moreRows.begin(), moreRows.end());
  std::vector<std::vector<int32_t>> allLengths{p.lengths};
  for (int32_t length : moreLengths)
    allLengths.push_back({length});
  for (const std::string &level : runnableLevels()) {
    CompiledKernel kernel = compileOrDie(kernelText(p), level, p.knobs, p.threads);
    for (int64_t rows : allRows)
      for (const std::vector<int32_t> &lengths : allLengths) {
        Problem own = p;
        own.rows = rows;
        own.lengths = lengths;
        Data data = makeData(own, 7 * rows + lengths[0]);
        checkData(kernel, own, data, own.name(level));
      }
  }
}

const Knobs oneRow = {{"query_block", 1}, {"key_block", 32}, {"splits", 1}, {"prefetch", 3}};
const Knobs split = {{"query_block", 1}, {"key_block", 32}, {"splits", 5}, {"split_keys", 16}};
const Knobs blocks = {{"query_block", 7}, {"splits", 1}, {"key_block", 64}, {"prefetch", 0}};

/// The same problem in each form.
void checkForms(Problem p, const std::vector<int64_t> &moreRows = {},
                const std::vector<int32_t> &moreLengths = {}) {
  for (const Knobs &knobs : {oneRow, split, blocks}) {
    p.knobs = knobs;
    check(p, moreRows, moreLengths);
  }
}

} // namespace

TEST(Attention, Groups) {
  for (auto [heads, kvHeads] : {std::pair{3, 3}, {9, 3}, {8, 2}, {8, 1}, {7, 1}})
    checkForms({.heads = heads, .kvHeads = kvHeads, .rows = 17, .lengths = {100, 17}});
}

TEST(Attention, Dimensions) {
  for (int64_t dim : {1, 16, 24, 33, 80, 128})
    checkForms({.heads = 4, .kvHeads = 2, .dim = dim, .rows = 5, .lengths = {100}});
  checkForms({.heads = 3, .kvHeads = 1, .dim = 48, .valueDim = 72, .rows = 5, .lengths = {40}});
}

TEST(Attention, LengthsAndRows) {
  checkForms({.heads = 3, .kvHeads = 1, .dim = 32, .rows = 64, .lengths = {100}}, {1, 2, 5},
             {1, 15, 16, 17, 513});
}

TEST(Attention, Masks) {
  for (bool causal : {true, false})
    for (int64_t window :
         causal ? std::vector<int64_t>{0, 1, 20, 70} : std::vector<int64_t>{0, 20}) {
      const double softcap = window == 0 || window == 1 ? 2.5 : 0.0;
      checkForms({.heads = 6,
                  .kvHeads = 2,
                  .dim = 32,
                  .rows = 64,
                  .lengths = {200, 33, 1},
                  .causal = causal,
                  .window = window,
                  .softcap = softcap},
                 {17});
    }
}

TEST(Attention, DefaultSchedules) {
  check({.heads = 9, .kvHeads = 3, .rows = 1, .lengths = {513}, .whole = true});
  check({.heads = 9, .kvHeads = 3, .rows = 1, .lengths = {513}, .whole = true, .threads = 1});
  check({.heads = 9, .kvHeads = 3, .rows = 5, .lengths = {90, 80, 17, 3, 64, 65, 1}});
  check({.heads = 9, .kvHeads = 3, .rows = 130, .lengths = {130}, .whole = true});
  check({.heads = 9, .kvHeads = 3, .rows = 130, .lengths = {513}, .whole = true, .threads = 16});
  check({.heads = 4, .kvHeads = 4, .dim = 80, .rows = 64, .lengths = {100, 200}});
  check({.heads = 32, .kvHeads = 4, .dim = 128, .rows = 17, .lengths = {100}, .whole = true});
}

TEST(Attention, EverySchedule) {
  Problem p{.heads = 6, .kvHeads = 2, .dim = 40, .rows = 9, .lengths = {150, 20}};
  for (const Knobs &knobs : std::vector<Knobs>{
           {{"query_block", 2}, {"mr", 1}, {"nr", 1}, {"key_block", 16}},
           {{"query_block", 3}, {"mr", 5}, {"nr", 1}, {"key_block", 112}},
           {{"query_block", 512}, {"mr", 2}, {"nr", 2}, {"key_block", 96}},
           {{"query_block", 1}, {"mr", 4}, {"nr", 1}, {"key_block", 16}, {"splits", 1}},
           {{"query_block", 1}, {"mr", 6}, {"nr", 1}, {"key_block", 512}, {"splits", 64}},
           {{"query_block", 1},
            {"mr", 1},
            {"nr", 3},
            {"key_block", 48},
            {"splits", 2},
            {"split_keys", 64}}}) {
    p.knobs = knobs;
    check(p);
  }
}

TEST(Attention, EqualOrderClassesGiveEqualBits) {
  Problem p{.heads = 6, .kvHeads = 2, .dim = 40, .rows = 9, .lengths = {150, 20}};
  const Data data = makeData(p, 1);
  for (const std::vector<Knobs> &together : std::vector<std::vector<Knobs>>{
           {{{"query_block", 2}, {"mr", 1}, {"nr", 1}, {"key_block", 96}},
            {{"query_block", 9}, {"mr", 4}, {"nr", 1}, {"key_block", 96}},
            {{"query_block", 512}, {"mr", 2}, {"nr", 2}, {"key_block", 96}}},
           {{{"query_block", 1}, {"mr", 4}, {"key_block", 48}, {"splits", 2}, {"split_keys", 64}},
            {{"query_block", 1},
             {"mr", 1},
             {"key_block", 48},
             {"splits", 2},
             {"split_keys", 64},
             {"prefetch", 8}}}}) {
    std::string orderClass;
    std::vector<float> first;
    for (const Knobs &knobs : together) {
      CompiledKernel kernel = compileOrDie(kernelText(p), "native", knobs);
      std::vector<float> result = runKernel(kernel, p, data);
      if (first.empty())
        std::tie(orderClass, first) = std::pair(kernel.orderClass, result);
      EXPECT_EQ(kernel.orderClass, orderClass);
      EXPECT_EQ(result, first) << kernel.schedule;
    }
  }
}

// A NaN in a key or value reaches the rows that see it, and no others.
TEST(Attention, NaNStaysWithItsRows) {
  for (const Knobs &knobs : {oneRow, split, blocks})
    for (bool inKeys : {true, false}) {
      Problem p{.heads = 3,
                .kvHeads = 1,
                .dim = 32,
                .rows = 90,
                .lengths = {90},
                .window = 25,
                .whole = true,
                .knobs = knobs};
      for (const std::string &level : everyRunnableLevel()) {
        CompiledKernel kernel = compileOrDie(kernelText(p), level, p.knobs);
        Data data = makeData(p, 1);
        std::vector<float> &cache = inKeys ? data.keys : data.values;
        std::fill_n(cache.begin() + (data.table[0] + 41) * p.dim, p.dim,
                    std::numeric_limits<float>::quiet_NaN());
        std::vector<float> result = runKernel(kernel, p, data);
        for (int64_t r = 0; r < p.rows; ++r)
          ASSERT_EQ(std::isnan(result[r * p.heads * p.dim]), r >= 41 && r < 41 + 25)
              << p.name(level) << ", row " << r;
        checkData(kernel, p, data, p.name(level));
      }
    }
}

// Scores far apart: shares underflow, and the highest score comes last or first.
TEST(Attention, LargeScores) {
  for (const Knobs &knobs : {oneRow, split, blocks}) {
    Problem p{.heads = 3,
              .kvHeads = 1,
              .dim = 16,
              .rows = 12,
              .lengths = {200},
              .whole = true,
              .knobs = knobs};
    for (const std::string &level : runnableLevels()) {
      CompiledKernel kernel = compileOrDie(kernelText(p), level, p.knobs);
      Data data = makeData(p, 5);
      for (float &value : data.query)
        value *= 30;
      for (size_t i = 0; i < data.keys.size(); ++i)
        data.keys[i] *= 0.01f * float(i / p.dim);
      // Scores of hundreds are rounded to 1e-5, and so their shares are known no better.
      checkData(kernel, p, data, p.name(level), 1e-9);
    }
  }
}

// What else is in the call changes no bit of a row.
TEST(Attention, RowsDoNotDependOnTheirNeighbours) {
  Problem p{.heads = 6, .kvHeads = 2, .dim = 32, .rows = 40, .lengths = {300, 200}, .window = 150};
  for (const Knobs &knobs : {oneRow, split, blocks})
    for (const std::string &level : runnableLevels()) {
      CompiledKernel kernel = compileOrDie(kernelText(p), level, knobs);
      Data data = makeData(p, 3);
      const std::vector<float> together = runKernel(kernel, p, data);
      const int64_t width = p.heads * p.dim;
      for (int64_t r : {0, 13, 39}) {
        Problem one = p;
        one.rows = 1;
        Data alone = data;
        alone.query.assign(data.query.begin() + r * width, data.query.begin() + (r + 1) * width);
        alone.positions = {data.positions[r]};
        alone.sequences = {data.sequences[r]};
        const std::vector<float> result = runKernel(kernel, one, alone);
        EXPECT_TRUE(std::equal(result.begin(), result.end(), together.begin() + r * width))
            << p.name(level) << ", row " << r;
      }
    }
}

// A query of several sequences in runs, and rows that see nothing among them.
TEST(Attention, RowsWithoutKeysAreZero) {
  for (const Knobs &knobs : {oneRow, split, blocks})
    for (bool causal : {true, false}) {
      Problem p{.heads = 3,
                .kvHeads = 1,
                .dim = 32,
                .rows = 24,
                .lengths = {50, 0, 9},
                .causal = causal,
                .knobs = knobs};
      for (const std::string &level : runnableLevels()) {
        CompiledKernel kernel = compileOrDie(kernelText(p), level, p.knobs);
        Data data = makeData(p, 2);
        std::vector<float> result = runKernel(kernel, p, data);
        int64_t without = 0;
        for (int64_t r = 0; r < p.rows; ++r)
          if (auto [first, end] = data.inputs(p).visible(r); first >= end) {
            ++without;
            for (int64_t i = 0; i < p.heads * p.dim; ++i)
              ASSERT_EQ(result[r * p.heads * p.dim + i], 0.0f) << p.name(level) << ", row " << r;
          }
        EXPECT_GT(without, 0) << p.name(level);
        checkData(kernel, p, data, p.name(level));
      }
    }
}

//===----------------------------------------------------------------------===//
// What is refused
//===----------------------------------------------------------------------===//

static std::string errorOf(const std::string &text, const Knobs &knobs = {},
                           const std::string &level = "avx2") {
  auto kernel = CompiledKernel::compile(text, level, knobs);
  return kernel ? "compiles" : kernel.error().line();
}

TEST(Attention, RefusesWhatItCannotCompute) {
  Problem p{.heads = 4, .kvHeads = 2};
  EXPECT_THAT(errorOf(kernelText(p, "f16")), testing::HasSubstr("its operand 'keys' holds f16"));
  EXPECT_THAT(errorOf(kernelText(p, "f32", "f16")), testing::HasSubstr("its operand 'query' holds f16"));
  EXPECT_THAT(errorOf(kernelText(p, "f32", "f32", ", page = 16")),
              testing::HasSubstr("use a contiguous cache"));
  p.dim = 2048;
  EXPECT_THAT(errorOf(kernelText(p)), testing::HasSubstr("heads of 2048 values"));
}

TEST(Attention, RefusesIllegalSchedules) {
  const std::string text = kernelText({.heads = 4, .kvHeads = 2, .rows = 64});
  EXPECT_EQ(errorOf(text), "compiles");
  EXPECT_THAT(errorOf(text, {{"query_block", 0}}), testing::HasSubstr("knob query_block"));
  EXPECT_THAT(errorOf(text, {{"mr", 7}}), testing::HasSubstr("knob mr"));
  EXPECT_THAT(errorOf(text, {{"mr", 6}, {"nr", 2}}), testing::HasSubstr("knob nr"));
  EXPECT_THAT(errorOf(text, {{"key_block", 40}}), testing::HasSubstr("knob key_block"));
  EXPECT_THAT(errorOf(text, {{"query_block", 8}, {"prefetch", 1}}),
              testing::HasSubstr("knob prefetch"));
  EXPECT_THAT(errorOf(text, {{"query_block", 8}, {"splits", 2}}),
              testing::HasSubstr("knob splits"));
  // A block of keys is packed in register tiles: as many vectors as a tile has.
  const Knobs wide{{"query_block", 8}, {"mr", 1}, {"nr", 2}};
  auto blocksOf = [&](int64_t keys) {
    Knobs knobs = wide;
    knobs.emplace_back("key_block", keys);
    return errorOf(text, knobs);
  };
  EXPECT_EQ(blocksOf(96), "compiles");
  EXPECT_THAT(blocksOf(48), testing::HasSubstr("knob key_block): it is 48, but must be a multiple "
                                               "of 32 from 32 to 512 with nr 2"));
  EXPECT_THAT(blocksOf(16), testing::HasSubstr("the nearest legal value is 32"));
  EXPECT_THAT(errorOf(text, {{"split_keys", 17}}), testing::HasSubstr("knob split_keys"));
}
