// Attention of few rows by a warp's matrix units: where it is taken, what is refused and why, and
// how the keys are shared out.
#include "CudaContext.h"
#include "kernelforge/codegen/cuda/Generator.h"
#include "kernelforge/codegen/cuda/Target.h"
#include "kernelforge/ir/Transformer.h"

#include "mlir/Parser/Parser.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

struct Decoding {
  int64_t heads = 32, kvHeads = 8, dim = 128, keys = 32768;
  std::string cache = "bf16", numerics = "";
  int64_t page = 0;

  std::string text() const {
    const std::string row = fmt::format("tensor<1x{}xf32>", heads * dim);
    const std::string kept = fmt::format("!transformer.cache<{}, {}, {}{}>", kvHeads, dim, cache,
                                         page > 0 ? fmt::format(", page = {}", page) : "");
    const std::string table =
        page > 0 ? fmt::format("tensor<1x{}xi32>", keys / page) : "tensor<1xi32>";
    const std::string words = numerics.empty()
                                  ? ""
                                  : fmt::format(", numerics = #transformer.numerics<multiply = {}, "
                                                "accumulate = f32>",
                                                numerics);
    return fmt::format(
        "transformer.kernel @k(%n: index {{transformer.size = #transformer.size<\"cached\", 1 to "
        "{2}>}}, %q: {0}, %k: {1}, %v: {1}, %p: tensor<1xi32>, %s: tensor<1xi32>, %t: "
        "{5}, %l: tensor<1xi32>) -> {0} {{\n%y = transformer.attention %q, %k, %v "
        "positions(%p) sequences(%s) table(%t) lengths(%l) {{heads = {3}, scale = 0.125, cached = "
        "\"cached\"{4}}} : ({0}, {1}, {1}, tensor<1xi32>, tensor<1xi32>, {5}, "
        "tensor<1xi32>) -> {0}\ntransformer.yield %y : {0}\n}}\n",
        row, kept, keys, heads, words, table);
  }
};

ScheduleSpace spaceOf(const Decoding &problem, const char *chip = "sm_90a") {
  const auto generator = cuda::createGenerator();
  auto module = mlir::parseSourceString<mlir::ModuleOp>(problem.text(), &context());
  EXPECT_TRUE(module) << problem.text();
  const Target target = *cuda::parseTarget(chip, "", nullptr);
  const KernelAnalysis kernel(*module->getOps<transformer::KernelOp>().begin());
  return *generator->scheduleSpace(kernel, target, 1);
}

int64_t methodOf(const Decoding &problem, const char *chip = "sm_90a") {
  return spaceOf(problem, chip).analytic.at("method");
}

std::string refusalOf(const Decoding &problem, KnobValues values) {
  const ScheduleSpace space = spaceOf(problem);
  values["method"] = 4;
  const Status status = space.check(space.complete(values));
  return status ? "" : status.error().line();
}

} // namespace

TEST(CudaAttentionGroups, TakeWhatMatrixUnitsMultiplyAsItIs) {
  for (const char *cache : {"bf16", "f16", "!transformer.quant<q8_0>"})
    EXPECT_EQ(methodOf({.cache = cache}), 4) << cache;
  EXPECT_EQ(methodOf({.numerics = "bf16"}), 4);
  // Numbers that are rounded otherwise, or have too many digits, and heads of no whole vectors.
  EXPECT_EQ(methodOf({.cache = "f32"}), 1);
  EXPECT_EQ(methodOf({.numerics = "f16"}), 1);
  EXPECT_EQ(methodOf({.cache = "!transformer.quant<q8_0>", .numerics = "f16"}), 1);
  EXPECT_EQ(methodOf({.dim = 80}), 1);
  EXPECT_EQ(methodOf({.heads = 4, .kvHeads = 1, .cache = "!transformer.quant<q8_0>"}), 1);
  EXPECT_EQ(methodOf({}, "sm_80"), 1);
}

// As many blocks as a GPU holds at once and no more: they all take as long.
TEST(CudaAttentionGroups, FillTheGpuOnce) {
  for (int64_t kvHeads : {1, 8, 32}) {
    const Decoding problem{.heads = 4 * kvHeads, .kvHeads = kvHeads};
    const KnobValues usual = spaceOf(problem).analytic;
    const int64_t chunks = (problem.keys + usual.at("chunk") - 1) / usual.at("chunk");
    EXPECT_LE(chunks * kvHeads, 132 * usual.at("resident")) << kvHeads;
    if (kvHeads > 1)
      EXPECT_GT(chunks * kvHeads, 120 * usual.at("resident")) << kvHeads;
  }
  EXPECT_EQ(spaceOf({.keys = 200}).analytic.at("chunk"), 0);
}

TEST(CudaAttentionGroups, SchedulesThatDoNotFitAreRefusedByReason) {
  EXPECT_EQ(refusalOf({}, {{"chunk", 1024}, {"warps", 8}}), "");
  EXPECT_THAT(refusalOf({}, {{"keys", 32}, {"resident", 4}}),
              HasSubstr("a thread needs about 224 registers and has 128"));
  // Slots that are looked up take what four blocks of bytes leave.
  Decoding bytes{.cache = "!transformer.quant<q8_0>"};
  EXPECT_EQ(refusalOf(bytes, {{"resident", 4}}), "");
  bytes.page = 16;
  EXPECT_THAT(refusalOf(bytes, {{"resident", 4}}),
              HasSubstr("a thread needs about 136 registers and has 128"));
  EXPECT_EQ(refusalOf(bytes, {{"resident", 3}}), "");
  EXPECT_THAT(refusalOf({}, {{"chunk", 100}}), HasSubstr("no whole steps of 16"));
  EXPECT_THAT(refusalOf({}, {{"warps", 3}}), HasSubstr("warps is 3; use a power of two"));
}
