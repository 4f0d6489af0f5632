// Matmuls without a device: which schedules there are, which one is taken, and what
// the code does not do where sizes are even.
#include "../simt/KernelTexts.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/webgpu/Emit.h"
#include "kernelforge/codegen/webgpu/Methods.h"

#include "mlir/Parser/Parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

namespace {

/// A device with matrix units and 48 KiB of workgroup memory.
Target fastTarget() {
  Target target;
  target.kind = "webgpu";
  target.enabled = {"shader-f16", "subgroup-matrix-f16-16x16x16", "subgroups"};
  target.limits.bindings = 10;
  target.limits.sharedBytes = 49152;
  target.limits.threadsPerBlock = 1024;
  target.limits.subgroupMin = target.limits.subgroupMax = 32;
  return target;
}

/// A quantized type in planes, of a weight.
std::string quants(const std::string &type) {
  return "!transformer.quant<" + type + ">, #transformer.layout<planes>";
}

/// A matmul of `m` rows.
class Matmul {
public:
  Matmul(int64_t m, int64_t n, int64_t k, const std::string &numerics = "f32",
         const std::string &type = "f32", std::string weight = "") {
    if (weight.empty())
      weight = type;
    context.loadDialect<transformer::TransformerDialect, mlir::func::FuncDialect>();
    simt::loadDialects(context);
    const std::string text = fmt::format(
        "transformer.kernel @k(%x: tensor<{0}x{2}x{4}>, %w: tensor<{1}x{2}x{5}>) -> "
        "tensor<{0}x{1}xf32> {{\n"
        "%y = transformer.matmul %x weights(%w) {{numerics = #transformer.numerics<multiply = "
        "{3}>}} : (tensor<{0}x{2}x{4}>, tensor<{1}x{2}x{5}>) -> tensor<{0}x{1}xf32>\n"
        "transformer.yield %y : tensor<{0}x{1}xf32>\n}}\n",
        m, n, k, numerics, type, weight);
    module = mlir::parseSourceString<mlir::ModuleOp>(text, mlir::ParserConfig(&context));
    for (auto found : module->getOps<transformer::KernelOp>())
      kernel = found;
  }

  Expected<ScheduleSpace> space(const Target &target) {
    return webgpu::methods().scheduleSpace(KernelAnalysis(kernel), target);
  }
  KnobValues usual(const Target &target) { return space(target).value().analytic; }

  std::string text(const Target &target, const KnobValues &schedule) {
    kernel.setScheduleAttr(scheduleAttr(&context, space(target).value().complete(schedule)));
    auto emitted = webgpu::emitWgsl(KernelAnalysis(kernel), target, "main");
    return emitted ? emitted->text : emitted.error().line();
  }

private:
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  transformer::KernelOp kernel;
};

} // namespace

TEST(WebGpuMatmulSchedules, FollowTheNumberOfTiles) {
  const Target target = fastTarget();
  const KnobValues many = Matmul(4096, 4096, 4096).usual(target);
  EXPECT_EQ(knobsText(many),
            "{\"bk\":16,\"bm\":128,\"bn\":256,\"ksplit\":1,\"lanes\":8,\"method\":1,"
            "\"pack\":0,\"stages\":1,\"tm\":8,\"tn\":16,\"turn\":1}");
  const KnobValues fewer = Matmul(1024, 1024, 1024).usual(target);
  EXPECT_EQ(knobsText(fewer),
            "{\"bk\":16,\"bm\":64,\"bn\":128,\"ksplit\":1,\"lanes\":8,\"method\":1,"
            "\"pack\":0,\"stages\":2,\"tm\":8,\"tn\":8,\"turn\":0}");
  const KnobValues few = Matmul(512, 512, 1024).usual(target);
  EXPECT_EQ(few.at("method"), 1);
  EXPECT_GT(few.at("ksplit"), 1) << knobsText(few);
  const KnobValues halves = Matmul(4096, 4096, 4096, "f16", "f16").usual(target);
  EXPECT_EQ(knobsText(halves), "{\"bk\":32,\"bm\":128,\"bn\":128,\"ksplit\":1,"
                               "\"method\":2,\"pack\":0,\"wm\":2,\"wn\":2}");
}

TEST(WebGpuMatmulSchedules, FitTheDevice) {
  Target portable = fastTarget();
  portable.enabled.clear();
  portable.limits.sharedBytes = 16384;
  portable.limits.threadsPerBlock = 256;
  Matmul matmul(4096, 4096, 4096);
  const ScheduleSpace space = matmul.space(portable).value();
  EXPECT_EQ(space.analytic.at("method"), 1);
  EXPECT_TRUE(space.check(space.analytic)) << knobsText(space.analytic);
  KnobValues large =
      space.complete({{"bm", 128}, {"bn", 256}, {"bk", 16}, {"tm", 8}, {"tn", 16}, {"stages", 1}});
  EXPECT_THAT(space.check(large).error().line(),
              HasSubstr("bytes of workgroup memory is 25088, and at most 16384 can be"));
  large["bn"] = 192;
  EXPECT_THAT(space.check(large).error().line(), HasSubstr("bn"));
  // Without matrix units operands are rounded, and multiplied as f32.
  EXPECT_EQ(Matmul(512, 512, 512, "f16").usual(portable).at("method"), 1);
  Target wide = fastTarget();
  wide.limits.subgroupMax = 64;
  EXPECT_EQ(Matmul(512, 512, 512, "f16").usual(wide).at("method"), 1);
}

TEST(WebGpuMatmulSchedules, SayInWhichOrderTheyAdd) {
  const ScheduleSpace space = Matmul(512, 512, 1000).space(fastTarget()).value();
  auto order = [&](KnobValues values) { return space.orderClass(space.complete(values)); };
  const KnobValues whole = {{"bk", 16}, {"ksplit", 1}}, split = {{"bk", 16}, {"ksplit", 4}};
  EXPECT_NE(order(whole), order(split));
  KnobValues larger = whole;
  larger["bm"] = 128;
  EXPECT_EQ(order(whole), order(larger));
}

TEST(WebGpuMatmulCode, HasNoGuardsWhereSizesAreEven) {
  const KnobValues schedule = {{"method", 1}, {"bm", 64},    {"bn", 64},    {"bk", 16}, {"tm", 4},
                               {"tn", 8},     {"stages", 1}, {"ksplit", 1}, {"turn", 1}};
  EXPECT_THAT(Matmul(128, 128, 64).text(fastTarget(), schedule),
              AllOf(HasSubstr("let a = tiles[row_quad];"),
                    HasSubstr("c0_0 = fma(vec4<f32>(a.x), b, c0_0);"), Not(HasSubstr("select")),
                    HasSubstr("if (next_stage < 4u) {")));
  EXPECT_THAT(Matmul(128, 128, 68).text(fastTarget(), schedule), HasSubstr("select"));
}

TEST(WebGpuMatmulCode, MultipliesMatrices) {
  const std::string text = Matmul(128, 128, 64, "f16", "f16")
                               .text(fastTarget(), {{"method", 2},
                                                    {"bm", 64},
                                                    {"bn", 64},
                                                    {"bk", 32},
                                                    {"wm", 2},
                                                    {"wn", 2},
                                                    {"ksplit", 1}});
  EXPECT_THAT(text, AllOf(HasSubstr("enable chromium_experimental_subgroup_matrix;"),
                          HasSubstr("var<workgroup> tiles: array<vec4<u32>, 640>;"),
                          HasSubstr("let a = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, "
                                    "row_major>(&tiles, rows_at,"),
                          HasSubstr("c0_0 = subgroupMatrixMultiplyAccumulate(a, b, c0_0);"),
                          Not(HasSubstr("select"))));
}

TEST(WebGpuMatmulSchedules, FewRowsShareOutK) {
  const Target target = fastTarget();
  EXPECT_EQ(knobsText(Matmul(1, 4096, 14336, "f32", "f16").usual(target)),
            "{\"ks\":4,\"lanes\":32,\"method\":3,\"pieces\":1,\"prepare\":0,\"r\":1,\"rows\":1,"
            "\"stage\":0,\"threads\":256,\"u\":4}");
  // Of a short K a thread has several units all the same.
  EXPECT_EQ(Matmul(1, 49152, 576, "f32", "f16").usual(target).at("lanes"), 16);
  // A row that is read serves several columns.
  const KnobValues two = Matmul(2, 4096, 14336, "f32", "f16").usual(target);
  EXPECT_EQ(two.at("r"), 2);
  EXPECT_EQ(two.at("u"), 4);
  EXPECT_EQ(Matmul(4, 4096, 14336, "f32", "f16").usual(target).at("r"), 4);
  Target without = target;
  without.enabled.clear();
  without.limits.subgroupMin = without.limits.subgroupMax = 0;
  EXPECT_EQ(Matmul(1, 4096, 14336, "f32", "f16").usual(without).at("lanes"), 1);
}

TEST(WebGpuMatmulRows, LoadsOfAColumnAreOnTheirWayTogether) {
  Matmul matmul(1, 512, 2048, "f32", "f16");
  const std::string text = matmul.text(
      fastTarget(), {{"method", 3}, {"r", 1}, {"lanes", 32}, {"ks", 4}, {"u", 2}, {"rows", 1}});
  EXPECT_THAT(text, HasSubstr(R"(  var sum = vec4<f32>(0.0);
  for (var k = first_unit; k < 256u; k += 256u) {
    let w = weight[begin + k];
    let w_1 = weight[begin + k + 128u];
    let x = input[k];
)"));
  EXPECT_THAT(text, AllOf(HasSubstr("subgroupShuffleXor("), HasSubstr("array<f32, 8>")));
}

TEST(WebGpuMatmulRows, ReadQuantsBeforeRowsAreMade) {
  Matmul matmul(1, 4096, 2048, "f32", "f32", quants("q4_1"));
  const KnobValues usual = matmul.usual(fastTarget());
  EXPECT_EQ(usual.at("stage"), 1) << knobsText(usual);
  const std::string text = matmul.text(fastTarget(), usual);
  EXPECT_LT(text.find("let quants = weight["), text.find("workgroupBarrier()")) << text;
  // What a workgroup has no room for is read where it lies, by more columns at once.
  const KnobValues large = Matmul(1, 4096, 14336, "f32", "f32", quants("q4_1")).usual(fastTarget());
  EXPECT_EQ(large.at("stage"), 0);
  EXPECT_GT(large.at("r"), usual.at("r"));
}

TEST(WebGpuMatmulRows, LargeWorkgroupsMakeWholeNumbersOfLongRows) {
  Target target = fastTarget();
  target.enabled.insert(target.enabled.begin(), "packed-dot"); // they are sorted
  auto usual = [&](int64_t m, const std::string &weight, const std::string &numerics) {
    return Matmul(m, 4096, 14336, numerics, "f32", quants(weight)).usual(target);
  };
  const KnobValues one = usual(1, "q4_1", "i8x2");
  EXPECT_EQ(one.at("prepare"), 0) << knobsText(one);
  EXPECT_EQ(one.at("threads"), 1024);
  EXPECT_EQ(usual(1, "q4_1", "i8").at("threads"), 512);
  EXPECT_EQ(usual(2, "q4_1", "i8x2").at("prepare"), 1); // there is no room for two
}

TEST(WebGpuMatmulRows, SchedulesThatCannotBeAreRefused) {
  const ScheduleSpace space = Matmul(2, 512, 2048, "f32", "f16").space(fastTarget()).value();
  auto why = [&](const KnobValues &given) {
    const Status checked = space.check(space.complete(given));
    return checked ? std::string() : checked.error().line();
  };
  EXPECT_EQ(why({{"method", 3}}), "");
  EXPECT_THAT(why({{"method", 3}, {"lanes", 24}}), HasSubstr("knob lanes"));
  EXPECT_THAT(why({{"method", 3}, {"lanes", 64}}), HasSubstr("knob lanes"));
  EXPECT_THAT(why({{"method", 3}, {"ks", 64}}), HasSubstr("knob ks"));
  EXPECT_THAT(why({{"method", 3}, {"prepare", 1}}), HasSubstr("knob prepare"));
  EXPECT_THAT(
      why({{"method", 3}, {"threads", 1024}, {"lanes", 1}, {"ks", 1}, {"r", 8}, {"pieces", 64}}),
      HasSubstr("bytes of workgroup memory"));
}
