// What a kernel demands of its code is held against what the code takes.
#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/compiler/KernelCompiler.h"
#include "kernelforge/compiler/Pipelines.h"

#include "mlir/Parser/Parser.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

class Demands : public testing::Test {
protected:
  /// "compiled", or why a decoding matmul for AVX-512 was not. `groups` of 16 columns are
  /// multiplied at once: 7 are more than the registers hold while weights are expanded.
  std::string outcome(int groups, const std::string &demands) {
    const Target target = parseTarget("avx512", "").value();
    loadStages(&context, target);
    const std::string text = fmt::format(R"(
!weight = tensor<1024x256x!transformer.quant<q8_0>, #transformer.layout<interleaved, rows = 16>>
transformer.kernel @k(%x: tensor<1x256xf32>, %w: !weight) -> tensor<1x1024xf32>
    attributes {{demands = #transformer.demands<{{{}}}>,
                 schedule = #transformer.schedule<{{groups = {} : i64, panel = 0 : i64}}>}} {{
  %y = transformer.matmul %x weights(%w) : (tensor<1x256xf32>, !weight) -> tensor<1x1024xf32>
  transformer.yield %y : tensor<1x1024xf32>
}})",
                                         demands, groups);
    std::string diagnostics;
    mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) {
      diagnostics += diagnostic.str();
      return mlir::success();
    });
    auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    if (!module)
      return diagnostics;
    KernelAnalyses analyses;
    const Status scheduled =
        runToStage(*module, Stage::Scheduled, {target, 1, true, {}, {}}, analyses);
    if (!scheduled)
      return scheduled.error().line();
    const auto artifacts = compileKernels(*module, target, ObjectCache::disabled(), analyses);
    if (artifacts)
      return "compiled";
    kind = artifacts.error().kind;
    return artifacts.error().line();
  }

  mlir::MLIRContext context;
  ErrorKind kind = ErrorKind::Failed; ///< of the last error
};

TEST_F(Demands, SpillsAreRefusedWithTheirInstructions) {
  EXPECT_EQ(outcome(1, "no_spills"), "compiled");
  EXPECT_EQ(outcome(7, ""), "compiled");
  const std::string spills = outcome(7, "no_spills");
  EXPECT_THAT(spills, HasSubstr("@k, no_spills"));
  EXPECT_THAT(spills, HasSubstr("instructions of inner loops use the stack: +0x"));
  EXPECT_THAT(spills, HasSubstr("(%rsp)"));
  EXPECT_EQ(kind, ErrorKind::No);
}

TEST_F(Demands, RegistersAreRefusedWithBothNumbers) {
  EXPECT_EQ(outcome(1, "max_registers = 32"), "compiled");
  const std::string many = outcome(1, "max_registers = 2");
  EXPECT_THAT(many, HasSubstr("@k, max_registers"));
  EXPECT_THAT(many, testing::ContainsRegex("takes [0-9]+ registers, and 2 are the most"));
}

TEST_F(Demands, AreChecked) {
  EXPECT_THAT(outcome(1, "no_spill"), HasSubstr("unknown demand 'no_spill'; known: no_spills, "));
  EXPECT_THAT(outcome(1, "no_spills = 1"), HasSubstr("no_spills has no value"));
  EXPECT_THAT(outcome(1, "max_registers = 0"), HasSubstr("must be a number from 1, not 0"));
  EXPECT_THAT(outcome(1, "min_roofline = 1.5"), HasSubstr("must be from above 0 to 1, not 1.5"));
}

/// As a driver says it of code that it has finished.
TEST_F(Demands, OfCodeThatADriverFinishedAreOfAThread) {
  ASSERT_EQ(outcome(1, "no_spills, max_registers = 64"), "compiled");
  auto module = mlir::parseSourceString<mlir::ModuleOp>(R"(
transformer.kernel @k(%x: tensor<1x4xf32>) -> tensor<1x4xf32>
    attributes {demands = #transformer.demands<{no_spills, max_registers = 64}>} {
  %y = transformer.softmax %x : tensor<1x4xf32>
  transformer.yield %y : tensor<1x4xf32>
})",
                                                        &context);
  ASSERT_TRUE(module);
  auto kernel = *module->getOps<transformer::KernelOp>().begin();
  auto lineOf = [&](const KernelResources &resources) {
    const Status status = checkDemands(kernel, resources);
    return status ? "" : status.error().line();
  };
  EXPECT_EQ(lineOf({.registers = 64, .spillBytes = 0}), "");
  EXPECT_EQ(lineOf({}), ""); // nobody says
  EXPECT_THAT(lineOf({.registers = 65, .spillBytes = 0}), HasSubstr("takes 65 registers, and 64"));
  EXPECT_THAT(lineOf({.registers = 64, .spillBytes = 8}), HasSubstr("keeps 8 bytes in memory"));
  // What a kernel is stays the same.
  const std::string before = kernelHash(kernel);
  kernel.removeDemandsAttr();
  EXPECT_EQ(kernelHash(kernel), before);
}

} // namespace
