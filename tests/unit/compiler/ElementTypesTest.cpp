// The table of element types on the processor and on the reference, and that fusion leaves apart
// what a kernel would be refused for.
#include "ElementCases.h"

using namespace kernelforge;

namespace {

class ElementTypes : public testing::TestWithParam<ElementCase> {};

} // namespace

TEST_P(ElementTypes, AreRightOnTheProcessor) {
  const ElementCase &test = GetParam();
  for (const std::string &type : typesOf(test))
    for (bool fuse : {true, false})
      if (fuse || (isChain(test) && std::ranges::count(plainTypes, type) != 0))
        expectRightOrRefused(test, type, testOptions(*parseTarget("cpu", "native", ""), fuse),
                             false);
}

TEST_P(ElementTypes, AreRightOnTheReference) {
  for (const std::string &type : typesOf(GetParam()))
    expectRightOrRefused(GetParam(), type, testOptions(referenceTarget()), false);
}

TEST_P(ElementTypes, InOtherNumericsAreRightOnTheReferenceAndInI8OnTheProcessor) {
  for (const std::string &type : typesOf(GetParam()))
    for (Numerics numerics : numericsOf(GetParam(), type)) {
      EXPECT_TRUE(
          expectRightOrRefusedIn(GetParam(), type, numerics, testOptions(referenceTarget())));
      EXPECT_EQ(expectRightOrRefusedIn(GetParam(), type, numerics,
                                       testOptions(*parseTarget("cpu", "native", ""))),
                numerics == Numerics::I8);
    }
}

INSTANTIATE_TEST_SUITE_P(All, ElementTypes, testing::ValuesIn(elementCases),
                         [](const auto &info) { return std::string(info.param.name); });

TEST(Fusion, TakesRowsOfNarrowTypesIntoOneKernel) {
  for (const char *name :
       {"matmul_all", "matmul_second_result", "epilogue_residual", "cast_between"})
    for (const std::string &type : plainTypes) {
      mlir::MLIRContext context;
      loadAllStages(&context);
      const auto test = std::ranges::find(elementCases, std::string(name), &ElementCase::name);
      ASSERT_NE(test, elementCases.end());
      auto module = mlir::parseSourceString<mlir::ModuleOp>(textOf(*test, type), &context);
      PipelineOptions options;
      options.target = *parseTarget("cpu", "native", "");
      ASSERT_TRUE(runToStage(*module, Stage::Scheduled, options));
      EXPECT_EQ(llvm::range_size(module->getOps<transformer::KernelOp>()), 1)
          << name << " " << type;
    }
}

TEST(Fusion, LeavesApartWhatItsKernelWouldBeRefusedFor) {
  // The table of a rotation is computed: it is looked up in another kernel than it is made in, of
  // other rows than those that are rotated.
  const char *table = R"mlir(
func.func @f(%x: tensor<5x8xf32>, %p: tensor<5xi32>, %a: tensor<6x4xf32>) -> tensor<5x8xf32> {
  %t = transformer.scale %a {factor = 0.5} : tensor<6x4xf32>
  %y = transformer.rope %x, %p, %t <half_split> {headDim = 4}
      : (tensor<5x8xf32>, tensor<5xi32>, tensor<6x4xf32>) -> tensor<5x8xf32>
  return %y : tensor<5x8xf32>
})mlir";
  // The input is its own table, in one type.
  const char *itself = R"mlir(
func.func @f(%x: tensor<6x4xf32>, %p: tensor<6xi32>) -> tensor<6x4xf32> {
  %t = transformer.scale %x {factor = 0.5} : tensor<6x4xf32>
  %y = transformer.rope %t, %p, %t <half_split> {headDim = 4}
      : (tensor<6x4xf32>, tensor<6xi32>, tensor<6x4xf32>) -> tensor<6x4xf32>
  return %y : tensor<6x4xf32>
})mlir";
  // No tile holds a head that wide.
  const char *wide = R"mlir(
func.func @f(%x: tensor<2x1xf32>, %w: tensor<1048592x1xf32> {transformer.weight = "w"},
             %p: tensor<2xi32>, %t: tensor<4x2xf32>) -> tensor<2x1048592xf32> {
  %m = transformer.matmul %x weights(%w) : (tensor<2x1xf32>, tensor<1048592x1xf32>)
      -> tensor<2x1048592xf32>
  %y = transformer.rope %m, %p, %t <half_split> {headDim = 1048592}
      : (tensor<2x1048592xf32>, tensor<2xi32>, tensor<4x2xf32>) -> tensor<2x1048592xf32>
  return %y : tensor<2x1048592xf32>
})mlir";
  for (const char *text : {table, itself, wide}) {
    auto outcome = runFunction(text);
    ASSERT_TRUE(outcome) << text << outcome.error().line();
    EXPECT_TRUE(outcome->isRight()) << text;
  }
}
