// Matmuls by matrix units: what is taken, what is refused and why, and what the code is made of.
#include "../simt/KernelTexts.h"
#include "CudaContext.h"
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/cuda/Generator.h"
#include "kernelforge/codegen/cuda/Target.h"
#include "kernelforge/ir/Transformer.h"

#include "mlir/Parser/Parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

namespace {

/// A kernel with its generator and target, which `use` gets with the analysis.
template <typename Use> auto with(const std::string &text, Use use, const char *chip = "sm_90a") {
  const auto generator = cuda::createGenerator();
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context());
  EXPECT_TRUE(module) << text;
  const Target target = *cuda::parseTarget(chip, "", nullptr);
  const KernelAnalysis kernel(*module->getOps<transformer::KernelOp>().begin());
  return use(*generator, kernel, target);
}

KnobValues usual(const std::string &text, const char *chip = "sm_90a") {
  return with(
      text,
      [](const CodeGenerator &generator, const KernelAnalysis &kernel, const Target &target) {
        return generator.scheduleSpace(kernel, target, 1)->analytic;
      },
      chip);
}

/// The usual schedule of the method, whether it is the usual one or not.
KnobValues usualMatrices(const std::string &text, KnobValues given = {}) {
  given["method"] = 1;
  return with(text, [&](const CodeGenerator &generator, const KernelAnalysis &kernel,
                        const Target &target) {
    return generator.scheduleSpace(kernel, target, 1)->complete(given);
  });
}

std::string checked(const std::string &text, const KnobValues &values) {
  return with(text,
              [&](const CodeGenerator &generator, const KernelAnalysis &kernel,
                  const Target &target) -> std::string {
                const ScheduleSpace space = *generator.scheduleSpace(kernel, target, 1);
                const Status status = space.check(space.complete(values));
                return status ? "" : status.error().line();
              });
}

/// What a kernel with such a schedule is launched as.
Launching emitted(const std::string &text, const KnobValues &given = {}) {
  const KnobValues values = usualMatrices(text, given);
  return with(text, [&](const CodeGenerator &generator, const KernelAnalysis &kernel,
                        const Target &target) {
    kernel.kernel().setScheduleAttr(scheduleAttr(&context(), values));
    const auto module = mlir::ModuleOp::create(mlir::UnknownLoc::get(&context()));
    auto launching = generator.emit(module, kernel, target, "main");
    EXPECT_TRUE(launching) << launching.error().line();
    module->erase();
    return launching ? *launching : Launching();
  });
}

std::string matmul(int64_t m, int64_t n, int64_t k, const std::string &rows = "bf16",
                   const std::string &weight = "bf16", const std::string &numerics = "") {
  const std::string in = fmt::format("tensor<{}x{}x{}>", m, k, rows),
                    out = fmt::format("tensor<{}x{}x{}>", m, n, rows),
                    stored = fmt::format("tensor<{}x{}x{}>", n, k, weight);
  const std::string words =
      numerics.empty()
          ? ""
          : fmt::format(" {{numerics = #transformer.numerics<multiply = {}, accumulate = f32>}}",
                        numerics);
  return fmt::format("transformer.kernel @k(%x: {0}, %w: {1}) -> ({2}) {{\n%y = transformer.matmul "
                     "%x weights(%w){3} : ({0}, {1}) -> ({2})\ntransformer.yield %y : {2}\n}}\n",
                     in, stored, out, words);
}

} // namespace

TEST(CudaMatmul, MatrixUnitsAreTakenWhereOperandsAreAsTheyMultiply) {
  EXPECT_EQ(usual(matmul(512, 1024, 1024)).at("method"), 1);
  EXPECT_EQ(usual(matmul(512, 1024, 1024, "f16", "f16")).at("method"), 1);
  EXPECT_EQ(usual(matmul(512, 1024, 1024, "f32", "bf16", "bf16")).at("method"), 1);
  for (const std::string &text :
       {matmul(512, 1024, 1024, "f32", "f32"), matmul(512, 1024, 1024, "f32", "bf16"),
        matmul(512, 1024, 1024, "f16", "bf16"), matmul(512, 1024, 1025)})
    EXPECT_EQ(usual(text).at("method"), 2) << text;
  EXPECT_EQ(usual(matmul(512, 1024, 1024), "sm_90").at("method"), 2);
}

TEST(CudaMatmul, TilesFollowTheShape) {
  EXPECT_EQ(usual(matmul(8192, 8192, 8192)).at("bn"), 256);
  EXPECT_EQ(usual(matmul(512, 6144, 4096)).at("bn"), 192);
  EXPECT_EQ(usual(matmul(2048, 4096, 4096)).at("bn"), 256);
  EXPECT_EQ(usual(matmul(512, 28672, 4096)).at("bn"), 224);
  EXPECT_EQ(usualMatrices(matmul(64, 4096, 4096)).at("split"), 2);
  EXPECT_EQ(usualMatrices(matmul(16, 4096, 4096)).at("bm"), 64);
}

TEST(CudaMatmul, SchedulesThatDoNotFitAreRefusedByReason) {
  const std::string text = matmul(512, 1024, 1024);
  EXPECT_EQ(checked(text, {{"method", 1}, {"bm", 128}, {"bn", 128}, {"stages", 3}}), "");
  EXPECT_THAT(checked(text, {{"method", 1}, {"bm", 128}, {"bn", 256}, {"stages", 5}}),
              HasSubstr("278608 bytes of shared memory do not fit a multiprocessor"));
  EXPECT_THAT(
      checked(text, {{"method", 1}, {"bm", 128}, {"bn", 256}, {"stages", 2}, {"resident", 2}}),
      HasSubstr("do not fit a multiprocessor"));
  EXPECT_THAT(
      checked(text, {{"method", 1}, {"bm", 64}, {"bn", 256}, {"stages", 2}, {"resident", 2}}),
      HasSubstr("a thread keeps 128 sums, and 2 blocks leave it 128 registers"));
  EXPECT_THAT(checked(text, {{"method", 1}, {"bn", 48}}), HasSubstr("bn"));
  EXPECT_EQ(checked(text, {{"method", 1}, {"bn", 128}, {"split", 4}}), "");
  EXPECT_THAT(checked(text, {{"method", 1}, {"bn", 96}, {"split", 8}}),
              HasSubstr("96 columns are shared out among 8 blocks in pieces of 8"));
  EXPECT_THAT(checked(text, {{"method", 1}, {"bm", 128}, {"bn", 256}, {"stages", 2}, {"split", 2}}),
              HasSubstr("131072 bytes of sums do not fit where 2 stages were"));
  EXPECT_THAT(checked(matmul(512, 1024, 104), {{"method", 1}, {"split", 4}}), HasSubstr("split"));
  EXPECT_THAT(checked(text, {{"method", 9}}), HasSubstr("0 (plain), 1 (matrices)"));
}

TEST(CudaMatmul, BlocksOfAClusterShareADepth) {
  const Launching launching = emitted(matmul(64, 4096, 4096), {{"bn", 64}, {"split", 2}});
  const Phase &phase = launching.phases.back();
  EXPECT_EQ(phase.cluster, 2);
  EXPECT_EQ(phase.grid, Extent(128));
  EXPECT_TRUE(phase.startsEarly);
  // The order of a sum follows from it.
  with(matmul(64, 4096, 4096),
       [](const CodeGenerator &generator, const KernelAnalysis &kernel, const Target &target) {
         const ScheduleSpace space = *generator.scheduleSpace(kernel, target, 1);
         KnobValues one = space.complete({{"method", 1}, {"split", 1}}), two = one;
         two["split"] = 2;
         EXPECT_NE(space.orderClass(one), space.orderClass(two));
         one["bn"] = two["bn"] = 64;
         EXPECT_EQ(space.orderClass(one),
                   space.orderClass(space.complete({{"method", 1}, {"split", 1}})));
         return 0;
       });
}

TEST(CudaMatmul, SegmentsSideBySideAreOnePhase) {
  const std::string x = "tensor<512x256xbf16>", w = "tensor<256x256xbf16>";
  const Launching launching = emitted(fmt::format(
      "transformer.kernel @k(%x: {0}, %q: {1}, %k: {1}, %v: {1}) -> ({0}, {0}, {0}) {{\n%a, %b, %c "
      "= "
      "transformer.matmul %x weights(%q, %k, %v) : ({0}, {1}, {1}, {1}) -> ({0}, {0}, {0})\n"
      "transformer.yield %a, %b, %c : {0}, {0}, {0}\n}}\n",
      x, w));
  ASSERT_EQ(launching.phases.size(), 1U);
  EXPECT_EQ(launching.phases[0].parameters.size(), 7U);
}

TEST(CudaMatmul, RotationsFollowInTilesOfWholeHeads) {
  const auto rotated = [](int64_t dim, int64_t rotary) {
    return fmt::format(
        "transformer.kernel @k(%x: tensor<64x256xbf16>, %w: tensor<{1}x256xbf16>, %p: "
        "tensor<64xi32>, %t: tensor<9x{2}xf32>) -> tensor<64x{1}xbf16> {{\n%a = "
        "transformer.matmul %x weights(%w) : (tensor<64x256xbf16>, tensor<{1}x256xbf16>) -> "
        "(tensor<64x{1}xbf16>)\n%y = transformer.rope %a, %p, %t <half_split> {{headDim = {0}}} : "
        "(tensor<64x{1}xbf16>, tensor<64xi32>, tensor<9x{2}xf32>) -> tensor<64x{1}xbf16>\n"
        "transformer.yield %y : tensor<64x{1}xbf16>\n}}\n",
        dim, 4 * dim, rotary);
  };
  const KnobValues values = usualMatrices(rotated(96, 96));
  EXPECT_EQ(values.at("bn") / values.at("split") % 96, 0);
  EXPECT_THAT(checked(rotated(128, 64), {{"method", 1}, {"bn", 64}}), HasSubstr("bn"));
  EXPECT_THAT(checked(rotated(128, 128), {{"method", 1}, {"bn", 128}, {"split", 2}}),
              HasSubstr("in pieces of 128"));
  // Fewer columns than the two blocks of eight that a thread has pairs of.
  EXPECT_THAT(checked(rotated(64, 8), {{"method", 1}}), HasSubstr("which this kernel has not"));
}

TEST(CudaMatmul, PhasesSayWhatIsCopied) {
  const Launching direct = emitted(matmul(200, 1024, 512), {{"bn", 64}});
  ASSERT_EQ(direct.phases.size(), 1U);
  const Phase &phase = direct.phases[0];
  ASSERT_EQ(phase.parameters.size(), 3U);
  for (const Parameter &parameter : phase.parameters)
    EXPECT_EQ(parameter.kind, Parameter::Kind::Map);
  EXPECT_EQ(phase.parameters[0].map->shape, (std::vector<Extent>{512, 200}));
  EXPECT_EQ(phase.parameters[2].access, Access::Write);
  EXPECT_TRUE(direct.workspaces.empty());
  // Rows that are rounded first stand in a workspace.
  const Launching rounded = emitted(matmul(200, 1024, 512, "f32", "bf16", "bf16"), {{"bn", 64}});
  ASSERT_EQ(rounded.phases.size(), 2U);
  ASSERT_EQ(rounded.workspaces.size(), 1U);
  EXPECT_EQ(rounded.workspaces[0].bytes, Extent(200 * 512 * 2));
  EXPECT_EQ(rounded.phases[1].parameters[0].index, 3);
  EXPECT_TRUE(rounded.phases[1].afterPrevious);
  // Results whose rows are no multiples of 16 bytes are stored by threads.
  const Launching odd = emitted(matmul(200, 65, 512), {{"bn", 64}});
  EXPECT_EQ(odd.phases[0].parameters[0].kind, Parameter::Kind::Buffer);
  EXPECT_EQ(odd.phases[0].parameters.size(), 3U);
}
