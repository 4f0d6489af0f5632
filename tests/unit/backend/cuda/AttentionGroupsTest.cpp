// Attention for few rows by a warp's matrix units: groups of every size, f32 as several numbers,
// numbers far from one, chunks and none, windows, soft-cap, sinks, rows of several sequences,
// pages.
#include "AttentionFixture.h"

#include <fmt/format.h>

using namespace kernelforge;

namespace {

AttentionCase of(AttentionCase test, const char *type, const char *numerics = nullptr) {
  test.keys = test.values = type;
  if (numerics)
    test.numerics = fmt::format("multiply = {}", numerics);
  return test;
}

std::string groupSchedule(int chunk, int warps, int keys = 16) {
  return fmt::format("method = 4, chunk = {}, warps = {}, keys = {}, resident = 1", chunk, warps,
                     keys);
}

} // namespace

TEST_F(AttentionMethods, GroupsOfHeads) {
  const std::pair<int64_t, int64_t> groups[] = {{4, 4}, {6, 2}, {8, 1}, {10, 1}, {7, 1}};
  for (const auto &[i, group] : llvm::enumerate(groups)) {
    AttentionCase test{.heads = group.first, .kvHeads = group.second};
    expectRight(of(test, i % 2 ? "f16" : "bf16"), {groupSchedule(i % 2 ? 0 : 32, i % 2 ? 4 : 2)});
  }
}

TEST_F(AttentionMethods, GroupsOfWideHeads) {
  AttentionCase test{.heads = 4, .kvHeads = 1, .dim = 96, .valueDim = 128, .rows = 2};
  expectRight(of(test, "bf16"), {groupSchedule(64, 4), groupSchedule(64, 1, 32)});
  test.dim = 128;
  test.query = test.result = "bf16";
  expectRight(of(test, "f16"), {groupSchedule(0, 8)});
}

// Rows of several sequences in any order, keys before a window's first, slots that nobody sees.
TEST_F(AttentionMethods, GroupsSeeWhatTheyMay) {
  AttentionCase test{.rows = 5, .sequences = 3, .window = 37, .sinks = true};
  expectRight(of(test, "bf16"), {groupSchedule(16, 2), groupSchedule(0, 2, 32)});
  test.window = 0;
  test.causal = false;
  test.softcap = 3;
  expectRight(of(test, "f16"), {groupSchedule(48, 2)});
}

// Pages of whole steps, of which one number is looked up, and others.
TEST_F(AttentionMethods, GroupsGoThroughPages) {
  AttentionCase test{.page = 32};
  expectRight(of(test, "bf16"), {groupSchedule(64, 2), groupSchedule(0, 1, 32)});
  test.page = 8;
  test.window = 19;
  expectRight(of(test, "f16"), {groupSchedule(32, 2)});
}

TEST_F(AttentionMethods, GroupsRoundAsNumericsSay) {
  for (const char *type : {"f16", "bf16"})
    expectRight(of({}, type, type), {groupSchedule(32, 2)});
}

// f32 that f16 has only by a factor: scores whose factors are far from one, on either side.
TEST_F(AttentionMethods, GroupsScaleWhatF16DoesNotHold) {
  for (const double scale : {1e-3, 40.0})
    expectRight(of({.rows = 1, .sequences = 1, .scale = scale}, "f16"), {groupSchedule(0, 2)});
}

TEST_F(AttentionMethods, GroupsExpandQuants) {
  AttentionCase test{.heads = 6, .kvHeads = 2, .dim = 128, .valueDim = 128, .rows = 2};
  expectRight(of(test, "q8_0"), {groupSchedule(32, 2), groupSchedule(0, 2, 32)});
  AttentionCase mixed{.heads = 8, .kvHeads = 4, .page = 16, .window = 45, .keys = "q8_0"};
  mixed.values = "bf16";
  expectRight(mixed, {groupSchedule(48, 2)});
  mixed.keys = "f16";
  mixed.values = "q8_0";
  expectRight(mixed, {groupSchedule(0, 4)});
}
