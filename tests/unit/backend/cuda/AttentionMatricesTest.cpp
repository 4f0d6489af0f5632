// Attention by the matrix units of a warpgroup: heads of every width, groups, causal and not,
// windows, soft-cap, sinks, rows of several sequences in any order, pages, rows that are rounded.
#include "AttentionFixture.h"

#include <fmt/format.h>

using namespace kernelforge;

namespace {

AttentionCase matrices(AttentionCase test, const char *type = "bf16") {
  test.keys = test.values = type;
  test.numerics = fmt::format("multiply = {}", type);
  return test;
}

std::string tileSchedule(int rows, int keys, int stages = 2, int heads = 1, int blocks = 132) {
  return fmt::format("method = 3, rows = {}, keys = {}, stages = {}, heads = {}, blocks = {}", rows,
                     keys, stages, heads, blocks);
}

} // namespace

TEST_F(AttentionMethods, OfOneSequence) {
  AttentionCase test{.heads = 2, .kvHeads = 1, .rows = 150, .sequences = 1, .past = 90};
  test.query = test.result = "bf16";
  expectRight(matrices(test), {tileSchedule(128, 64), tileSchedule(64, 128, 3)});
  test.causal = false;
  expectRight(matrices(test), {tileSchedule(128, 128)});
  test.query = test.result = "f32";
  test.dim = test.valueDim = 128;
  test.causal = true;
  expectRight(matrices(test, "f16"), {tileSchedule(128, 128)});
}

// Blocks that go on to further tiles take them one after the other, and leave the counter as it
// was.
TEST_F(AttentionMethods, BlocksGoOn) {
  AttentionCase test{
      .heads = 3, .kvHeads = 1, .dim = 16, .valueDim = 32, .rows = 200, .sequences = 1};
  expectRight(matrices(test), {tileSchedule(64, 64, 2, 2, 2)});
}

TEST_F(AttentionMethods, OfSeveralSequences) {
  AttentionCase test{.heads = 2,
                     .kvHeads = 2,
                     .dim = 80,
                     .valueDim = 48,
                     .rows = 75,
                     .sequences = 3,
                     .past = 70,
                     .sinks = true};
  expectRight(matrices(test), {tileSchedule(64, 96)});
  test.page = 16;
  test.softcap = 3;
  test.causal = false;
  expectRight(matrices(test, "f16"), {tileSchedule(64, 64, 3)});
}

TEST_F(AttentionMethods, OfWindows) {
  AttentionCase test{.heads = 1,
                     .kvHeads = 1,
                     .dim = 64,
                     .valueDim = 64,
                     .rows = 140,
                     .sequences = 1,
                     .past = 60,
                     .window = 37};
  expectRight(matrices(test), {tileSchedule(64, 32)});
  test.page = 8;
  test.sequences = 2;
  test.causal = false;
  test.sinks = true;
  expectRight(matrices(test), {tileSchedule(128, 48)});
}

TEST_F(AttentionMethods, OfWideHeads) {
  AttentionCase test{.heads = 1,
                     .kvHeads = 1,
                     .dim = 256,
                     .valueDim = 256,
                     .rows = 70,
                     .sequences = 1,
                     .past = 40};
  test.query = "bf16";
  expectRight(matrices(test), {tileSchedule(64, 64)});
}
