// Attention that multiplies bf16, in each way that this machine has for it: by AMX, by AVX512-BF16,
// and as f32 that were rounded.
#include "AttentionCase.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

using Problem = AttentionCase;
using Data = AttentionData;
using enum ElementType;

// The reference rounds weights of the softmax, here they are rounded before they are divided by
// their sum: half a unit of bf16 apart, each to another side.
constexpr double roundings = 2e-5;

void checkRounded(Problem p, uint64_t seed = 5) {
  p.rounds = true;
  for (const std::string &level : bfloat16Levels()) {
    Data data = makeAttentionData(p, seed);
    const CompiledKernel kernel = compileOrDie(p.text(), level, p.knobs, p.threads);
    checkAttention(kernel, p, data, p.name(level), roundings);
  }
}

} // namespace

TEST(AttentionBfloat16, RoundsWhatItMultiplies) {
  for (const std::string &level : bfloat16Levels())
    for (ElementType type : {F32, F16, BF16, Q8_0})
      for (const Knobs &knobs : {oneRow, split, blocks}) {
        const Problem p = {.heads = 6,
                           .kvHeads = 2,
                           .dim = 64,
                           .rows = 5,
                           .lengths = {100, 17},
                           .knobs = knobs,
                           .keys = type,
                           .values = type,
                           .rounds = true};
        Data data = makeAttentionData(p, 5);
        const CompiledKernel kernel = compileOrDie(p.text(), level, p.knobs, p.threads);
        checkAttention(kernel, p, data, p.name(level), roundings);
        // And it does round: f32 gives something else.
        Problem exact = p;
        exact.rounds = false;
        const CompiledKernel plain = compileOrDie(exact.text(), level, p.knobs, p.threads);
        EXPECT_NE(runAttention(kernel, p, data), runAttention(plain, exact, data));
      }
}

TEST(AttentionBfloat16, ShapesAndSchedules) {
  for (int64_t dim : {1, 16, 24, 33, 80, 128, 200})
    checkRounded({.heads = 4,
                  .kvHeads = 2,
                  .dim = dim,
                  .valueDim = dim == 24   ? 72
                              : dim == 80 ? 17
                                          : 0,
                  .rows = 25,
                  .lengths = {100},
                  .knobs = blocks,
                  .keys = dim % 2 ? F32 : BF16,
                  .values = BF16});
  for (const Knobs &knobs : {Knobs{{"query_block", 2}, {"key_block", 32}},
                             {{"query_block", 9}, {"key_block", 96}},
                             {{"query_block", 512}, {"key_block", 512}}})
    checkRounded(
        {.heads = 6, .kvHeads = 2, .dim = 40, .rows = 49, .lengths = {250, 20}, .knobs = knobs});
  checkRounded({.heads = 9,
                .kvHeads = 3,
                .rows = 150,
                .lengths = {513},
                .whole = true,
                .keys = BF16,
                .values = BF16});
}

TEST(AttentionBfloat16, MasksPagesAndSinks) {
  for (bool causal : {true, false})
    for (int64_t window : {0, 1, 20})
      checkRounded({.heads = 6,
                    .kvHeads = 2,
                    .dim = 32,
                    .rows = 64,
                    .lengths = {200, 33, 1},
                    .causal = causal,
                    .window = window,
                    .softcap = window == 1 ? 2.5 : 0.0,
                    .knobs = blocks,
                    .keys = BF16,
                    .values = BF16,
                    .page = window == 20 ? 8 : 0,
                    .sinks = causal ? std::optional(F32) : std::nullopt});
}

// What is not finite in a key or value reaches the rows that see it, and no others.
TEST(AttentionBfloat16, WhatIsNotFiniteStaysWithItsRows) {
  for (bool inKeys : {true, false}) {
    Problem p{.heads = 3,
              .kvHeads = 1,
              .dim = 40,
              .rows = 90,
              .lengths = {90},
              .window = 25,
              .whole = true,
              .knobs = blocks,
              .keys = BF16,
              .values = BF16,
              .rounds = true};
    for (const std::string &level : bfloat16Levels()) {
      const CompiledKernel kernel = compileOrDie(p.text(), level, p.knobs);
      Data data = makeAttentionData(p, 1);
      const std::vector<float> before = runAttention(kernel, p, data);
      Bytes &cache = inKeys ? data.keys : data.values;
      const int64_t bytes = p.keySlot().bytes();
      std::fill_n(cache.begin() + (data.table[0] + 41) * bytes, bytes, std::byte(0xff));
      const std::vector<float> result = runAttention(kernel, p, data);
      for (int64_t r = 0; r < p.rows; ++r) {
        const int64_t at = r * p.heads * p.dim;
        if (r >= 41 && r < 41 + 25)
          ASSERT_TRUE(std::isnan(result[at])) << p.name(level) << ", row " << r;
        else
          ASSERT_EQ(result[at], before[at]) << p.name(level) << ", row " << r;
      }
      checkAttention(kernel, p, data, p.name(level), roundings);
    }
  }
}

// What else is in the call changes no bit of a row.
TEST(AttentionBfloat16, RowsDoNotDependOnTheirNeighbours) {
  Problem p{.heads = 6,
            .kvHeads = 2,
            .dim = 32,
            .rows = 40,
            .lengths = {300, 200},
            .window = 150,
            .knobs = blocks,
            .rounds = true};
  for (const std::string &level : bfloat16Levels())
    checkRowsAlone(p, level);
}

// Scores so large that their multiples by log2(e) are rounded by more than the scores of other keys
// are apart from them.
TEST(AttentionBfloat16, HugeScores) {
  Problem p{.heads = 2,
            .kvHeads = 1,
            .dim = 32,
            .rows = 24,
            .lengths = {150},
            .whole = true,
            .knobs = blocks,
            .keys = BF16,
            .values = BF16,
            .rounds = true};
  for (const float size : {1e6f, 1e9f})
    for (const std::string &level : bfloat16Levels()) {
      const CompiledKernel kernel = compileOrDie(p.text(), level, p.knobs);
      Data data = makeAttentionData(p, 7);
      for (float &value : data.query)
        value *= size;
      checkAttention(kernel, p, data, p.name(level), 1e-3);
    }
}

// Scores far apart, and rows that see nothing.
TEST(AttentionBfloat16, LargeScoresAndRowsWithoutKeys) {
  Problem p{.heads = 3,
            .kvHeads = 1,
            .dim = 16,
            .rows = 24,
            .lengths = {200, 0, 9},
            .causal = false,
            .knobs = blocks,
            .rounds = true};
  for (const std::string &level : bfloat16Levels()) {
    const CompiledKernel kernel = compileOrDie(p.text(), level, p.knobs);
    Data data = makeAttentionData(p, 5);
    for (float &value : data.query)
      value *= 30;
    // Scores of hundreds differ by units where a product is rounded to bf16 in another place: which
    // key is the highest is the reference's all the same.
    checkAttention(kernel, p, data, p.name(level), 1e-3);
    const std::vector<float> result = runAttention(kernel, p, data);
    for (int64_t r = 0; r < p.rows; ++r)
      if (p.lengths[size_t(data.sequences[size_t(r)])] == 0)
        for (int64_t i = 0; i < p.heads * p.dim; ++i)
          ASSERT_EQ(result[r * p.heads * p.dim + i], 0.0f) << p.name(level) << ", row " << r;
  }
}
