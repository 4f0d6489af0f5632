// What every target asks of operations: a missing case, and what differs by target.
#include "kernelforge/codegen/Operands.h"

#include "mlir/Parser/Parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::AllOf;
using testing::HasSubstr;

namespace {

class Operands : public testing::Test {
protected:
  Operands() { context.loadDialect<transformer::TransformerDialect>(); }

  /// Why the kernel in `text` cannot be computed; empty where it can.
  std::string obstacle(const char *text, const OperandSupport &support) {
    auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    EXPECT_TRUE(module);
    Status status = checkOperations(*module->getOps<transformer::KernelOp>().begin(), support);
    return status ? "" : status.error().line();
  }

  static constexpr OperandSupport all{.device = "a test",
                                      .hasCode = [](mlir::Operation *) { return true; },
                                      .readsLayouts = true,
                                      .needsFiniteF32 = false};
  mlir::MLIRContext context;
};

const char *scaled = R"mlir(
transformer.kernel @k(%x: tensor<5x8xf32>, %w: tensor<8x8xf32>) -> tensor<5x8xf32> {
  %m = transformer.matmul %x weights(%w) : (tensor<5x8xf32>, tensor<8x8xf32>) -> tensor<5x8xf32>
  %y = transformer.scale %m {factor = 1.0e300} : tensor<5x8xf32>
  transformer.yield %y : tensor<5x8xf32>
})mlir";

} // namespace

TEST_F(Operands, AnOperationWithoutACaseIsRefusedByName) {
  EXPECT_EQ(obstacle(scaled, all), "");
  OperandSupport none = all;
  none.hasCode = [](mlir::Operation *op) { return !llvm::isa<transformer::ScaleOp>(op); };
  EXPECT_THAT(obstacle(scaled, none),
              AllOf(HasSubstr("cannot be compiled for a test"), HasSubstr("@k, transformer.scale"),
                    HasSubstr("no code is generated for this operation")));
}

TEST_F(Operands, NumbersMustBeFiniteWhereATargetSaysSo) {
  OperandSupport finite = all;
  finite.needsFiniteF32 = true;
  EXPECT_THAT(obstacle(scaled, finite), HasSubstr("its factor is no finite f32"));
}

TEST_F(Operands, OtherNumericsThanF32AreRefusedByName) {
  const auto multiplying = [](const std::string &numerics) {
    return R"mlir(
transformer.kernel @k(%x: tensor<5x8xf32>, %w: tensor<8x8xf32>) -> tensor<5x8xf32> {
  %y = transformer.matmul %x weights(%w) {numerics = #transformer.numerics<)mlir" +
           numerics + R"mlir(>} : (tensor<5x8xf32>, tensor<8x8xf32>) -> tensor<5x8xf32>
  transformer.yield %y : tensor<5x8xf32>
})mlir";
  };
  EXPECT_EQ(obstacle(multiplying("multiply = f32, accumulate = f32").c_str(), all), "");
  OperandSupport some = all;
  some.multipliesIn = [](mlir::Operation *op, Numerics numerics) {
    return llvm::isa<transformer::MatmulOp>(op) && numerics == Numerics::F16;
  };
  for (const char *other : {"bf16", "f16", "fp8"})
    for (const OperandSupport &support : {all, some}) {
      const std::string text = multiplying(std::string("multiply = ") + other);
      if (support.multipliesIn && other == std::string("f16"))
        EXPECT_EQ(obstacle(text.c_str(), support), "");
      else
        EXPECT_THAT(obstacle(text.c_str(), support),
                    AllOf(HasSubstr("@k, transformer.matmul"),
                          HasSubstr(std::string("multiply in ") + other)));
    }
}

TEST_F(Operands, WhatMustStandInMemoryIsAnArgument) {
  const char *computed = R"mlir(
transformer.kernel @k(%x: tensor<5x8xf32>, %a: tensor<8x8xf32>) -> tensor<5x8xf32> {
  %w = transformer.scale %a {factor = 2.0} : tensor<8x8xf32>
  %y = transformer.matmul %x weights(%w) {transpose}
      : (tensor<5x8xf32>, tensor<8x8xf32>) -> tensor<5x8xf32>
  transformer.yield %y : tensor<5x8xf32>
})mlir";
  EXPECT_THAT(obstacle(computed, all),
              AllOf(HasSubstr("transformer.matmul"), HasSubstr("computed in the same kernel")));
}
