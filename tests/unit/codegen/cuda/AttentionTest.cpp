// Attention by matrix units: what is taken, what is refused and why, and what the code is made of.
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

struct Shape {
  int64_t rows = 2048, heads = 8, kvHeads = 2, dim = 128, page = 0;
  std::string cache = "bf16", numerics = "bf16", query = "bf16", more = "";
  double scale = 0.125;

  std::string text() const {
    const std::string rowsOf = fmt::format("tensor<{}x{}x{}>", rows, heads * dim, query);
    const std::string kept = fmt::format("!transformer.cache<{}, {}, {}{}>", kvHeads, dim, cache,
                                         page ? fmt::format(", page = {}", page) : "");
    const std::string each = fmt::format("tensor<{}xi32>", rows);
    const std::string table = page ? "tensor<1x128xi32>" : "tensor<1xi32>";
    const std::string words = numerics.empty()
                                  ? ""
                                  : fmt::format(", numerics = #transformer.numerics<multiply = "
                                                "{}, accumulate = f32>",
                                                numerics);
    return fmt::format(
        "transformer.kernel @k(%q: {0}, %k: {1}, %v: {1}, %p: {2}, %s: {2}, %t: {3}, %l: "
        "tensor<1xi32>) -> {0} {{\n%y = transformer.attention %q, %k, %v positions(%p) "
        "sequences(%s) table(%t) lengths(%l) {{heads = {4}, scale = {5:.17e}{6}{7}}} : ({0}, {1}, "
        "{1}, {2}, {2}, {3}, tensor<1xi32>) -> {0}\ntransformer.yield %y : {0}\n}}\n",
        rowsOf, kept, each, table, heads, scale, more, words);
  }
};

template <typename Use> auto with(const Shape &shape, Use use, const char *chip = "sm_90a") {
  const auto generator = cuda::createGenerator();
  auto module = mlir::parseSourceString<mlir::ModuleOp>(shape.text(), &context());
  EXPECT_TRUE(module) << shape.text();
  const Target target = *cuda::parseTarget(chip, "", nullptr);
  const KernelAnalysis kernel(*module->getOps<transformer::KernelOp>().begin());
  return use(*generator, kernel, target);
}

/// The schedule that is taken; it must be legal.
KnobValues usual(const Shape &shape, const char *chip = "sm_90a") {
  return with(
      shape,
      [](const CodeGenerator &generator, const KernelAnalysis &kernel, const Target &target) {
        const ScheduleSpace space = *generator.scheduleSpace(kernel, target, 1);
        const Status legal = space.check(space.analytic);
        EXPECT_TRUE(legal) << legal.error().line();
        return space.analytic;
      },
      chip);
}

std::string checked(const Shape &shape, const KnobValues &values) {
  return with(shape,
              [&](const CodeGenerator &generator, const KernelAnalysis &kernel,
                  const Target &target) -> std::string {
                const ScheduleSpace space = *generator.scheduleSpace(kernel, target, 1);
                const Status status = space.check(space.complete(values));
                return status ? "" : status.error().line();
              });
}

constexpr int64_t matrices = 3;

} // namespace

TEST(CudaAttention, ManyRowsAreMultipliedByMatrixUnitsWhereOperandsAreAsTheyMultiply) {
  for (int64_t dim : {64, 80, 96, 128, 256})
    EXPECT_EQ(usual({.dim = dim}).at("method"), matrices) << dim;
  EXPECT_EQ(usual({.cache = "f16", .numerics = "f16"}).at("method"), matrices);
  EXPECT_EQ(usual({.page = 16, .query = "f32"}).at("method"), matrices);
  for (const Shape &shape : {Shape{.numerics = ""}, Shape{.numerics = "f16"}, Shape{.cache = "f16"},
                             Shape{.page = 4}, Shape{.dim = 72}, Shape{.scale = -0.125}})
    EXPECT_NE(usual(shape).at("method"), matrices) << shape.text();
  EXPECT_NE(usual({}, "sm_90").at("method"), matrices);
}

TEST(CudaAttention, SchedulesThatDoNotFitAreRefusedByReason) {
  auto why = [](KnobValues values) {
    values["method"] = matrices;
    return checked({}, values);
  };
  EXPECT_EQ(why({}), "");
  EXPECT_THAT(why({{"keys", 128}, {"stages", 4}}), HasSubstr("bytes of shared memory"));
  EXPECT_THAT(why({{"keys", 256}, {"rows", 128}, {"stages", 2}}),
              HasSubstr("bytes of shared memory"));
  EXPECT_THAT(why({{"keys", 128}, {"rows", 192}}), HasSubstr("a thread keeps 160 numbers"));
  EXPECT_THAT(why({{"keys", 40}}), HasSubstr("keys"));
  EXPECT_EQ(checked({.page = 32}, {{"method", matrices}, {"keys", 80}, {"rows", 64}}), "");
  EXPECT_THAT(checked({.page = 8}, {{"method", matrices}, {"keys", 264}}), HasSubstr("keys"));
}

TEST(CudaAttention, PhasesSayWhatIsCopied) {
  auto emitted = [](const Shape &shape) {
    return with(shape, [](const CodeGenerator &generator, const KernelAnalysis &kernel,
                          const Target &target) {
      const auto module = mlir::ModuleOp::create(mlir::UnknownLoc::get(&context()));
      auto launching = generator.emit(module, kernel, target, "main");
      EXPECT_TRUE(launching) << launching.error().line();
      module->erase();
      return launching ? *launching : Launching();
    });
  };
  const Launching direct = emitted({});
  ASSERT_EQ(direct.phases.size(), 1U);
  std::vector<const Parameter *> maps;
  for (const Parameter &parameter : direct.phases[0].parameters)
    if (parameter.map)
      maps.push_back(&parameter);
  ASSERT_EQ(maps.size(), 3U);
  EXPECT_EQ(maps[0]->map->shape, (std::vector<Extent>{1024, 2048}));
  EXPECT_FALSE(maps[0]->map->toEnd);
  for (size_t i : {1, 2}) {
    EXPECT_EQ(maps[i]->index, int(i));
    EXPECT_EQ(maps[i]->map->shape[0], Extent(256));
    EXPECT_TRUE(maps[i]->map->toEnd);
  }
  ASSERT_EQ(direct.workspaces.size(), 1U);
  EXPECT_EQ(direct.workspaces[0].contents, Workspace::Contents::ZeroedOnce);
  // A query that is rounded first stands in a workspace.
  const Launching rounded = emitted({.page = 16, .query = "f32"});
  ASSERT_EQ(rounded.phases.size(), 2U);
  ASSERT_EQ(rounded.workspaces.size(), 2U);
  EXPECT_EQ(rounded.workspaces[0].bytes, Extent(2048 * 1024 * 2));
  EXPECT_TRUE(rounded.phases[1].afterPrevious);
}
