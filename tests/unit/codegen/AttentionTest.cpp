// Attention kernels of both forms against the reference semantics, with NaN in every cache row
// that no query row sees.
#include "AttentionCase.h"

#include <algorithm>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

using Problem = AttentionCase;
using Data = AttentionData;

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
    CompiledKernel kernel = compileOrDie(p.text(), level, p.knobs, p.threads);
    for (int64_t rows : allRows)
      for (const std::vector<int32_t> &lengths : allLengths) {
        Problem own = p;
        own.rows = rows;
        own.lengths = lengths;
        Data data = makeAttentionData(own, 7 * rows + lengths[0]);
        checkAttention(kernel, own, data, own.name(level));
      }
  }
}

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
  const Data data = makeAttentionData(p, 1);
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
      CompiledKernel kernel = compileOrDie(p.text(), "native", knobs);
      std::vector<float> result = runAttention(kernel, p, data);
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
        CompiledKernel kernel = compileOrDie(p.text(), level, p.knobs);
        Data data = makeAttentionData(p, 1);
        Bytes &cache = inKeys ? data.keys : data.values;
        const int64_t bytes = p.keySlot().bytes();
        std::fill_n(cache.begin() + (data.table[0] + 41) * bytes, bytes, std::byte(0xff));
        std::vector<float> result = runAttention(kernel, p, data);
        for (int64_t r = 0; r < p.rows; ++r)
          ASSERT_EQ(std::isnan(result[r * p.heads * p.dim]), r >= 41 && r < 41 + 25)
              << p.name(level) << ", row " << r;
        checkAttention(kernel, p, data, p.name(level));
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
      CompiledKernel kernel = compileOrDie(p.text(), level, p.knobs);
      Data data = makeAttentionData(p, 5);
      for (float &value : data.query)
        value *= 30;
      std::vector<float> keys = valuesOf<float>(data.keys);
      for (size_t i = 0; i < keys.size(); ++i)
        keys[i] *= 0.01f * float(i / p.dim);
      data.keys = bytesOf(keys);
      // Scores of hundreds are rounded to 1e-5, and so their shares are known no better.
      checkAttention(kernel, p, data, p.name(level), 1e-9);
    }
  }
}

// What else is in the call changes no bit of a row.
TEST(Attention, RowsDoNotDependOnTheirNeighbours) {
  Problem p{.heads = 6, .kvHeads = 2, .dim = 32, .rows = 40, .lengths = {300, 200}, .window = 150};
  for (const Knobs &knobs : {oneRow, split, blocks})
    for (const std::string &level : runnableLevels()) {
      p.knobs = knobs;
      checkRowsAlone(p, level);
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
        CompiledKernel kernel = compileOrDie(p.text(), level, p.knobs);
        Data data = makeAttentionData(p, 2);
        std::vector<float> result = runAttention(kernel, p, data);
        int64_t without = 0;
        for (int64_t r = 0; r < p.rows; ++r)
          if (auto [first, end] = data.inputs(p).visible(r); first >= end) {
            ++without;
            for (int64_t i = 0; i < p.heads * p.dim; ++i)
              ASSERT_EQ(result[r * p.heads * p.dim + i], 0.0f) << p.name(level) << ", row " << r;
          }
        EXPECT_GT(without, 0) << p.name(level);
        checkAttention(kernel, p, data, p.name(level));
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
  p.dim = 2048;
  EXPECT_THAT(errorOf(p.text()), testing::HasSubstr("heads of 2048 values"));
}

TEST(Attention, RefusesIllegalSchedules) {
  const std::string text = Problem{.heads = 4, .kvHeads = 2, .rows = 64}.text();
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
