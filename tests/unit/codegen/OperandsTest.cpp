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
                                      .readsNarrowRows = [](mlir::Operation *) { return true; },
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

TEST_F(Operands, RowsAreNarrowWhereATargetSaysSo) {
  const char *narrow = R"mlir(
transformer.kernel @k(%x: tensor<5x8xf32>, %w: tensor<8x8xf32>, %b: tensor<8xf16>, %r: tensor<5x8xbf16>)
    -> tensor<5x8xbf16> {
  %m = transformer.matmul %x weights(%w) bias(%b)
      : (tensor<5x8xf32>, tensor<8x8xf32>, tensor<8xf16>) -> tensor<5x8xbf16>
  %y = transformer.add %m, %r : tensor<5x8xbf16>
  transformer.yield %y : tensor<5x8xbf16>
})mlir";
  EXPECT_EQ(obstacle(narrow, all), "");
  OperandSupport exact = all;
  exact.readsNarrowRows = [](mlir::Operation *) { return false; };
  // Parameters may be narrow anyway.
  EXPECT_THAT(obstacle(narrow, exact), AllOf(HasSubstr("transformer.matmul"),
                                             HasSubstr("its result holds bf16, and only f32")));
  exact.readsNarrowRows = [](mlir::Operation *op) { return llvm::isa<transformer::MatmulOp>(op); };
  EXPECT_THAT(obstacle(narrow, exact),
              AllOf(HasSubstr("transformer.add"), HasSubstr("its operand 'lhs' holds bf16")));
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
