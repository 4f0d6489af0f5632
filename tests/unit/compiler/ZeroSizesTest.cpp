// Dimensions of 0: what has no elements is empty, what sums up nothing is zero.
#include "RunFunction.h"

#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/problem/KernelProblem.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

std::string functionOf(const std::string &arguments, const std::string &result,
                       const std::string &body) {
  return fmt::format("func.func @f({}) -> {} {{\n{}\nreturn %y : {}\n}}", arguments, result, body,
                     result);
}

/// `epilogue` turns %m into %y.
std::string matmulText(int64_t m, int64_t n, int64_t k, const std::string &element, bool transpose,
                       bool bias, const std::string &epilogue) {
  const std::string x = fmt::format("tensor<{}x{}xf32>", m, k);
  const std::string w =
      fmt::format("tensor<{}x{}x{}>", transpose ? k : n, transpose ? n : k, element);
  const std::string y = fmt::format("tensor<{}x{}xf32>", m, n),
                    b = fmt::format("tensor<{}xf32>", n);
  std::string body = fmt::format(
      "%m = transformer.matmul %x weights(%w) {} {} : ({}, {}{}) -> {}\n", bias ? "bias(%b)" : "",
      transpose ? "{transpose}" : "", x, w, bias ? ", " + b : "", y);
  return functionOf(fmt::format("%x: {}, %w: {} {{transformer.weight = \"w\"}}{}", x, w,
                                bias ? ", %b: " + b : ""),
                    y, body + fmt::format(fmt::runtime(epilogue), y));
}

void expectRight(const std::string &text) {
  for (bool fuse : {true, false}) {
    auto outcome = runFunction(text, fuse);
    ASSERT_TRUE(outcome) << text << "\n" << outcome.error().line();
    EXPECT_TRUE(outcome->isRight()) << text;
  }
}

} // namespace

TEST(ZeroSizes, OfAMatmul) {
  const std::string gelu = "%y = transformer.activation %m <gelu> : {}";
  for (auto [m, n, k] : std::vector<std::array<int64_t, 3>>{
           {0, 7, 32}, {3, 0, 32}, {3, 7, 0}, {64, 7, 0}, {0, 0, 32}, {3, 0, 0}, {0, 0, 0}})
    for (const char *element : {"f32", "f16", "!transformer.quant<q4_1>"})
      for (bool transpose : {false, true})
        if (!transpose || std::string(element)[0] == 'f')
          for (bool bias : {false, true})
            expectRight(matmulText(m, n, k, element, transpose, bias, gelu));
}

TEST(ZeroSizes, OfOneSegmentAndOfAPrologue) {
  expectRight(functionOf(
      "%x: tensor<4x8xf32>, %a: tensor<0x8xf32> {transformer.weight = \"a\"}, "
      "%b: tensor<5x8xf32> {transformer.weight = \"b\"}",
      "tensor<4x5xf32>",
      "%z, %y = transformer.matmul %x weights(%a, %b) : (tensor<4x8xf32>, tensor<0x8xf32>, "
      "tensor<5x8xf32>) -> (tensor<4x0xf32>, tensor<4x5xf32>)"));
  expectRight(
      functionOf("%x: tensor<4x0xf32>, %n: tensor<0xf32>, "
                 "%b: tensor<5x0xf32> {transformer.weight = \"b\"}",
                 "tensor<4x5xf32>",
                 "%z = transformer.layer_norm %x, %n {epsilon = 1.0e-5} : (tensor<4x0xf32>, "
                 "tensor<0xf32>) -> tensor<4x0xf32>\n"
                 "%y = transformer.matmul %z weights(%b) : (tensor<4x0xf32>, "
                 "tensor<5x0xf32>) -> tensor<4x5xf32>"));
}

TEST(ZeroSizes, OfRowwiseOperations) {
  for (auto [rows, width] : std::vector<std::pair<int64_t, int64_t>>{{0, 8}, {4, 0}, {0, 0}}) {
    const std::string t = fmt::format("tensor<{}x{}xf32>", rows, width),
                      v = fmt::format("tensor<{}xf32>", width),
                      i = fmt::format("tensor<{}xi32>", rows);
    const std::string arguments = fmt::format(
        "%x: {0}, %v: {1}, %i: {2}, %e: tensor<9x{3}xf32>, %t: tensor<6x2xf32>", t, v, i, width);
    for (const std::string &op :
         {fmt::format("rms_norm %x, %v {{epsilon = 0.1}} : ({0}, {1}) -> {0}", t, v),
          fmt::format("layer_norm %x, %v, %v {{epsilon = 0.1}} : ({0}, {1}, {1}) -> {0}", t, v),
          fmt::format("softmax %x : {}", t), fmt::format("activation %x <silu> : {}", t),
          fmt::format("add %x, %x : {}", t), fmt::format("mul %x, %x : {}", t),
          fmt::format("scale %x {{factor = 2.0}} : {}", t),
          fmt::format("embedding %i, %e : ({}, tensor<9x{}xf32>) -> {}", i, width, t),
          fmt::format("rope %x, %i, %t <interleaved> {{headDim = 4}} : ({0}, {1}, tensor<6x2xf32>) "
                      "-> {0}",
                      t, i)})
      expectRight(functionOf(arguments, t, "%y = transformer." + op));
  }
  expectRight(
      functionOf("%x: tensor<4x8xf32>, %i: tensor<0xi32>", "tensor<0x8xf32>",
                 "%y = transformer.gather_rows %x, %i : (tensor<4x8xf32>, tensor<0xi32>) -> "
                 "tensor<0x8xf32>"));
}

TEST(ZeroSizes, OfAttentionAndItsCache) {
  expectRight(functionOf(
      "%q: tensor<0x8xf32>, %c: !transformer.cache<1, 8, f32>, %p: tensor<0xi32>, "
      "%t: tensor<1xi32>, %l: tensor<1xi32>",
      "tensor<0x8xf32>",
      "transformer.cache_append %q, %p into %c : !transformer.cache<1, 8, f32>, tensor<0x8xf32>, "
      "tensor<0xi32>\n"
      "%y = transformer.attention %q, %c, %c positions(%p) sequences(%p) table(%t) lengths(%l) "
      "{heads = 1, scale = 1.0} : (tensor<0x8xf32>, !transformer.cache<1, 8, f32>, "
      "!transformer.cache<1, 8, f32>, tensor<0xi32>, tensor<0xi32>, tensor<1xi32>, tensor<1xi32>) "
      "-> tensor<0x8xf32>"));
}

TEST(ZeroSizes, NothingToIndexIsSaid) {
  for (const std::string &text :
       {functionOf("%i: tensor<3xi32>, %e: tensor<0x8xf32>", "tensor<3x8xf32>",
                   "%y = transformer.embedding %i, %e : (tensor<3xi32>, tensor<0x8xf32>) -> "
                   "tensor<3x8xf32>"),
        functionOf("%x: tensor<0x8xf32>, %i: tensor<3xi32>", "tensor<3x8xf32>",
                   "%y = transformer.gather_rows %x, %i : (tensor<0x8xf32>, tensor<3xi32>) -> "
                   "tensor<3x8xf32>")}) {
    auto outcome = runFunction(text);
    ASSERT_FALSE(outcome) << text;
    EXPECT_EQ(outcome.error().kind, ErrorKind::Unusable);
    EXPECT_THAT(outcome.error().line(), HasSubstr("there are no rows"));
  }
}

TEST(ZeroSizes, AKernelByItselfHasASpaceOfSchedules) {
  mlir::DialectRegistry registry;
  registerAllStages(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  const std::string none = "%y = transformer.scale %m {{factor = 2.0}} : {}";
  for (auto [m, n, k] :
       std::vector<std::array<int64_t, 3>>{{0, 7, 32}, {3, 0, 32}, {3, 7, 0}, {64, 7, 0}}) {
    auto module = mlir::parseSourceString<mlir::ModuleOp>(
        matmulText(m, n, k, "f32", false, false, none), &context);
    ASSERT_TRUE(module);
    PipelineOptions options;
    options.target = *parseTarget("native", "");
    ASSERT_TRUE(runToStage(*module, Stage::Fused, options));
    ProblemOptions problem;
    problem.target = options.target;
    problem.dataSets = 1;
    auto created = KernelProblem::create(*module->getOps<transformer::KernelOp>().begin(), problem);
    ASSERT_TRUE(created) << created.error().line();
    const ScheduleSpace &space = (*created)->space();
    EXPECT_TRUE(space.check(space.analytic));
    EXPECT_GE(space.predict(space.analytic), 0);
    EXPECT_TRUE((*created)->compile(space.analytic));
  }
}
