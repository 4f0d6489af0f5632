// Which method an attention gets on WebGPU, and that what is taken without measuring fits.
#include "../simt/KernelTexts.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/webgpu/Emit.h"
#include "kernelforge/codegen/webgpu/Methods.h"
#include "kernelforge/codegen/webgpu/Target.h"

#include "mlir/Parser/Parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

struct Shape {
  int64_t heads = 9, kvHeads = 3, dim = 64, rows = 1, keys = 8192;
  std::string cache = "f16", numerics = "";
};

/// A kernel's analysis, with what it is of.
class Parsed {
public:
  explicit Parsed(const Shape &shape) {
    context.loadDialect<transformer::TransformerDialect, mlir::func::FuncDialect>();
    const std::string cache =
        fmt::format("!transformer.cache<{}, {}, {}>", shape.kvHeads, shape.dim, shape.cache);
    const std::string rows = rowsText(shape.heads * shape.dim);
    module = mlir::parseSourceString<mlir::ModuleOp>(
        kernelText(
            fmt::format("%cached: index {{transformer.size = #transformer.size<\"cached\", 1 to "
                        "{}>}}, %q: {}, %k: {}, %v: {}, %p: !indices, %s: !indices, "
                        "%t: tensor<1xi32>, %l: tensor<1xi32>",
                        shape.keys, rows, cache, cache),
            rows,
            fmt::format("%y = transformer.attention %q, %k, %v positions(%p) sequences(%s) "
                        "table(%t) lengths(%l) {{heads = {}, scale = 0.125, cached = \"cached\"{}}}"
                        " : ({}, {}, {}, !indices, !indices, tensor<1xi32>, tensor<1xi32>) -> {}\n"
                        "transformer.yield %y : {}",
                        shape.heads,
                        shape.numerics.empty() ? ""
                                               : ", numerics = #transformer.numerics<multiply = " +
                                                     shape.numerics + ">",
                        rows, cache, cache, rows, rows),
            shape.rows),
        mlir::ParserConfig(&context));
    if (module)
      for (auto kernel : module->getOps<transformer::KernelOp>())
        analysis.emplace(kernel);
  }

  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::optional<KernelAnalysis> analysis;
};

Target target(const std::string &features) {
  auto made = webgpu::parseTarget("portable", features, nullptr);
  EXPECT_TRUE(made) << made.error().line();
  return made ? *made : Target();
}

/// The name of the method that a kernel gets, and that its schedule is legal and has code.
std::string methodOf(const Shape &shape, const Target &target) {
  Parsed parsed(shape);
  EXPECT_TRUE(parsed.analysis);
  if (!parsed.analysis)
    return "";
  auto space = webgpu::methods().scheduleSpace(*parsed.analysis, target);
  EXPECT_TRUE(space) << space.error().line();
  if (!space)
    return "";
  const Status legal = space->check(space->analytic);
  EXPECT_TRUE(legal) << legal.error().line();
  auto code = webgpu::emitWgsl(*parsed.analysis, target, "main");
  EXPECT_TRUE(code) << code.error().line();
  if (code)
    for (const Phase &phase : code->launching.phases)
      EXPECT_LE(phase.sharedBytes, target.limits.sharedBytes) << knobsText(space->analytic);
  const auto number = static_cast<size_t>(space->analytic.at("method"));
  return std::string(webgpu::methods().ofFamily(KernelFamily::Attention)[number]->name());
}

} // namespace

TEST(WebGpuAttention, FewRowsSplitKeys) {
  for (const char *features : {"", "+subgroups,+shader-f16"}) {
    EXPECT_EQ(methodOf({}, target(features)), "split");
    EXPECT_EQ(methodOf({.rows = 2, .numerics = "f16"}, target(features)), "split");
  }
}

TEST(WebGpuAttention, ManyRowsTakeTiles) {
  EXPECT_EQ(methodOf({.rows = 512}, target("+subgroups")), "split");
  EXPECT_EQ(methodOf({.rows = 4096}, target("+subgroups")), "tiles");
}

TEST(WebGpuAttention, ManyRowsOfHalvesMultiplyMatrices) {
  const Target matrices = target("+shader-f16,+subgroups,+subgroup-matrix-f16-16x16x16");
  EXPECT_EQ(methodOf({.rows = 512, .numerics = "f16"}, matrices), "matrices");
  EXPECT_NE(methodOf({.rows = 512}, matrices), "matrices");
  EXPECT_NE(methodOf({.rows = 512, .numerics = "f16"}, target("+subgroups")), "matrices");
}

TEST(WebGpuAttention, WhatIsTakenFits) {
  for (const char *features : {"", "+shader-f16,+subgroups,+subgroup-matrix-f16-16x16x16"})
    for (int64_t dim : {32, 64, 80, 96, 128, 256})
      for (int64_t group : {1, 3, 8, 32})
        for (int64_t rows : {1, 600})
          for (const char *cache : {"f32", "f16", "!transformer.quant<q8_0>"}) {
            if (*cache == '!' && dim % 32 != 0)
              continue;
            EXPECT_NE(methodOf({.heads = 2 * group,
                                .kvHeads = 2,
                                .dim = dim,
                                .rows = rows,
                                .cache = cache,
                                .numerics = group == 3 ? "" : "f16"},
                               target(features)),
                      "")
                << features << " " << dim << " " << group << " " << rows << " " << cache;
          }
}

TEST(WebGpuAttention, HeadsShareKeysWhereWorkgroupsAreMany) {
  auto headsOf = [](const Shape &shape) {
    Parsed parsed(shape);
    auto space = webgpu::methods().scheduleSpace(*parsed.analysis, target("+subgroups"));
    return space ? space->analytic.at("heads") : 0;
  };
  EXPECT_EQ(headsOf({}), 1);
  EXPECT_GT(headsOf({.heads = 32, .kvHeads = 8, .dim = 128, .keys = 32768}), 1);
}

TEST(WebGpuAttention, KnobsThatDoNotFitAreNamed) {
  Parsed parsed({});
  ASSERT_TRUE(parsed.analysis);
  auto space = webgpu::methods().scheduleSpace(*parsed.analysis, target("+subgroups"));
  ASSERT_TRUE(space) << space.error().line();
  auto why = [&](const KnobValues &values) {
    const Status status = space->check(space->complete(values));
    return status ? std::string() : status.error().line();
  };
  EXPECT_EQ(why({{"method", 1}, {"chunk", 128}, {"threads", 64}}), "");
  EXPECT_THAT(why({{"method", 1}, {"heads", 2}}), HasSubstr("use a divisor"));
  EXPECT_THAT(why({{"method", 1}, {"chunk", 100}, {"unroll", 8}}), HasSubstr("read at once"));
  EXPECT_THAT(why({{"method", 1}, {"chunk", 4096}}), HasSubstr("bytes of workgroup memory"));
  EXPECT_THAT(why({{"method", 3}}), HasSubstr("method is 3"));
}
