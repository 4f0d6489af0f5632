// The code before it is text: what any GPU target may rely on.
#include "../../support/WeightTypes.h"
#include "kernelforge/codegen/simt/Emit.h"

#include "Kernels.h"

#include "mlir/IR/Verifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

/// One kernel of each family, with all that is special in each.
std::vector<std::string> kernels() {
  std::vector<std::string> all;
  const std::string rows = rowsText(256), narrow = rowsText(80);
  for (ElementType type : weightTypes()) {
    const std::string weight = weightText(type, 80, 256);
    all.push_back(kernelText(
        fmt::format("%x: {}, %g: tensor<256xbf16>, %w: {}, %z: {}", rows, weight, narrow), narrow,
        fmt::format(
            "%h = transformer.rms_norm %x, %g {{epsilon = 1.0e-5}} : ({0}, "
            "tensor<256xbf16>) -> {0}\n%m = transformer.matmul %h weights(%w) : ({0}, {1}) "
            "-> {2}\n%a = transformer.activation %m <gelu_tanh> : {2}\n%y = transformer.add "
            "%a, %z : {2}\n transformer.yield %y : {2}",
            rows, weight, narrow)));
    all.push_back(kernelText("%i: !indices, %t: " + weight, rows,
                             fmt::format("%y = transformer.embedding %i, %t : (!indices, {0}) -> "
                                         "{1}\n%s = transformer.softmax %y : {1}\n "
                                         "transformer.yield %s : {1}",
                                         weight, rows)));
  }
  all.push_back(kernelText(
      "%x: " + narrow + ", %p: !indices, %t: tensor<9x6xf32>", narrow,
      fmt::format(
          "%y = transformer.rope %x, %p, %t <interleaved> {{headDim = 8 : i64}} : ({0}, "
          "!indices, tensor<9x6xf32>) -> {0}\n%s = transformer.scale %y {{softcap = 3.0}} : "
          "{0}\n transformer.yield %s : {0}",
          narrow)));
  for (const char *attributes : {"causal = true", "causal = false, window = 7 : i64"}) {
    const std::string table =
        "tensor<?x4xi32, #transformer.dims<\"tokens\">>"; // as many sequences as rows
    const std::string cache = "!transformer.cache<2, 40, f32, page = 16>";
    all.push_back(kernelText(
        fmt::format("%q: {}, %k: {}, %v: {}, %p: !indices, %s: !indices, %t: {}, %l: !indices",
                    narrow, cache, cache, table),
        narrow,
        fmt::format("%y = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) "
                    "lengths(%l) {{heads = 2 : i64, scale = 0.5 : f64, {0}}} : ({1}, {2}, {2}, "
                    "!indices, !indices, {3}, !indices) -> {1}\n transformer.yield %y : {1}",
                    attributes, narrow, cache, table)));
  }
  const std::string settings = rowsText(5), draws = rowsText(3, "i32"), recent = rowsText(9, "i32");
  all.push_back(kernelText(
      fmt::format("%x: {}, %s: {}, %d: {}, %p: !indices, %r: {}", narrow, settings, draws, recent),
      "!indices",
      fmt::format("%y = transformer.sample %x settings(%s) draws(%d) positions(%p) recent(%r) : "
                  "({}, {}, {}, !indices, {}) -> !indices\n transformer.yield %y : !indices",
                  narrow, settings, draws, recent)));
  const std::string results = "!indices, !indices, !indices, !indices, " + recent;
  all.push_back(kernelText(
      fmt::format("%i: !indices, %p: !indices, %s: !indices, %of: !indices, %t: {0}, %l: !indices, "
                  "%m: !indices, %r: {0}",
                  recent),
      results,
      fmt::format("%y:5 = transformer.advance %i, %p, %s sequences(%of) table(%t) lengths(%l) "
                  "limits(%m) recent(%r) {{page = 4}} : (!indices, !indices, !indices, !indices, "
                  "{0}, !indices, !indices, {0}) -> ({1})\n transformer.yield %y#0, %y#1, %y#2, "
                  "%y#3, %y#4 : {1}",
                  recent, results)));
  for (const char *element : {"f16", "bf16"}) {
    const std::string narrower = rowsText(80, element);
    all.push_back(kernelText(
        fmt::format("%x: {}, %g: tensor<16x{}>, %w: tensor<80x80xf32>", narrower, element),
        narrower,
        fmt::format(
            "%h = transformer.rms_norm %x, %g {{epsilon = 1.0e-5, heads = 5, offset = 1.0}} "
            ": ({0}, tensor<16x{1}>) -> {0}\n%m = transformer.matmul %h weights(%w) : ({0}, "
            "tensor<80x80xf32>) -> {2}\n%y = transformer.cast %m : {2} to {0}\n"
            "transformer.yield %y : {0}",
            narrower, element, narrow)));
  }
  const std::string quantized = "!transformer.cache<2, 128, !transformer.quant<q8_0>>";
  all.push_back(kernelText(
      fmt::format("%x: {}, %s: !indices, %c: {}", rows, quantized), "",
      fmt::format("transformer.cache_append %x, %s into %c : {}, {}, !indices\n transformer.yield",
                  quantized, rows)));
  all.push_back(kernelText(
      fmt::format("%q: {0}, %k: {1}, %p: !indices, %s: !indices, %t: !indices, %l: !indices, "
                  "%z: tensor<2xbf16>",
                  rows, quantized),
      rows,
      fmt::format(
          "%y = transformer.attention %q, %k, %k positions(%p) sequences(%s) table(%t) "
          "lengths(%l) sinks(%z) {{heads = 2, scale = 0.5}} : ({0}, {1}, {1}, !indices, "
          "!indices, !indices, !indices, tensor<2xbf16>) -> {0}\n transformer.yield %y : {0}",
          rows, quantized)));
  all.push_back(kernelText(
      "%x: tensor<6x256xf32>, %w: tensor<256x5xf16>, %b: tensor<5xf32>", "tensor<6x5xf32>",
      "%y = transformer.matmul %x weights(%w) bias(%b) {transpose} : (tensor<6x256xf32>, "
      "tensor<256x5xf16>, tensor<5xf32>) -> tensor<6x5xf32>\n transformer.yield %y : "
      "tensor<6x5xf32>"));
  return all;
}

} // namespace

TEST(SimtIr, IsValidAndOf32BitScalars) {
  for (const std::string &text : kernels()) {
    mlir::MLIRContext context;
    context.loadDialect<transformer::TransformerDialect, mlir::func::FuncDialect>();
    simt::loadDialects(context);
    auto parsed = mlir::parseSourceString<mlir::ModuleOp>(text, mlir::ParserConfig(&context));
    ASSERT_TRUE(parsed) << text;
    auto kernel = *parsed->getOps<transformer::KernelOp>().begin();
    mlir::OwningOpRef<mlir::ModuleOp> code = mlir::ModuleOp::create(kernel.getLoc());
    auto launching = simt::emit(*code, KernelAnalysis(kernel), leastLimits(), "entry");
    ASSERT_TRUE(launching) << launching.error().line();
    EXPECT_TRUE(mlir::succeeded(mlir::verify(*code))) << text;
    code->walk([&](mlir::Operation *op) {
      const llvm::StringRef dialect = op->getName().getDialectNamespace();
      EXPECT_TRUE(
          llvm::is_contained({"builtin", "func", "scf", "arith", "math", "memref", "gpu"}, dialect))
          << op->getName().getStringRef().str();
      for (mlir::Type type : op->getResultTypes())
        EXPECT_FALSE(type.isInteger(64) || mlir::isa<mlir::VectorType>(type))
            << op->getName().getStringRef().str();
    });
    for (const Phase &phase : launching->phases) {
      auto function = code->lookupSymbol<mlir::func::FuncOp>(phase.entry);
      ASSERT_TRUE(function);
      EXPECT_EQ(function.getNumArguments(), phase.parameters.size());
      for (mlir::BlockArgument argument : function.getArguments())
        EXPECT_FALSE(argument.use_empty()) << text;
    }
  }
}

TEST(SimtIr, StaticRowsAreConstants) {
  ParsedKernel kernel(kernels().back());
  auto made = kernel.emit();
  ASSERT_TRUE(made) << made.error().line();
  EXPECT_EQ(made->launching.phases[0].grid, Extent(2));
  EXPECT_THAT(made->text, testing::HasSubstr("let row_1 = min(first_row + 1u, 5u);"));
}
