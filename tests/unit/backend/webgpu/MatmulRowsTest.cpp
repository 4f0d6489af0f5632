// Matmuls of few rows on the device: every weight type, sizes that are multiples of nothing, every
// knob, with subgroups and without, what comes before the matmul and what follows it.
#include "../../compiler/RunFunction.h"
#include "../../support/WeightTypes.h"
#include "WebGpuFixture.h"

#include "kernelforge/codegen/simt/MatmulRows.h"
#include "kernelforge/codegen/webgpu/Methods.h"

#include <cstdlib>
#include <fmt/format.h>

using namespace kernelforge;

namespace {

/// The number of the method.
int64_t methodNumber() {
  const auto methods = webgpu::methods().ofFamily(KernelFamily::Matmul);
  return llvm::find(methods, &simt::matmulRows()) - methods.begin();
}

class MatmulRows : public testing::Test {
protected:
  void SetUp() override {
    Expected<std::unique_ptr<Device>> device = createWebGpuDevice(kernelforge::testOptions());
    if (!device) {
      if (std::getenv(testTarget().requiredBy))
        FAIL() << device.error().line();
      GTEST_SKIP() << device.error().line();
    }
    auto target = (*findGenerator("webgpu"))->parse("", "", &(*device)->info());
    ASSERT_TRUE(target) << target.error().line();
    whole = *target;
    options = kernelforge::testOptions(whole);
    options.openDevice = testTarget().createForKernels;
    target = (*findGenerator("webgpu"))->parse("", "-subgroups", &(*device)->info());
    ASSERT_TRUE(target) << target.error().line();
    without = *target;
  }

  /// Where the device has them.
  void useSubgroups(bool yes) { options.target = yes ? whole : without; }

  /// A function that launches a kernel of one matmul with these knobs.
  static std::string matmul(int m, int n, int k, const std::string &input,
                            const std::string &weight, const std::string &knobs = "") {
    return kernel(
        fmt::format("%x: tensor<{0}x{2}x{3}>, %w: tensor<{1}x{2}x{4}>", m, n, k, input, weight),
        fmt::format("%y = transformer.matmul %x weights(%w) : (tensor<{0}x{2}x{3}>, "
                    "tensor<{1}x{2}x{4}>) -> tensor<{0}x{1}xf32>",
                    m, n, k, input, weight),
        "%y", fmt::format("tensor<{}x{}xf32>", m, n), knobs);
  }

  /// A function that launches a kernel of this body.
  static std::string kernel(const std::string &arguments, const std::string &body,
                            const std::string &results, const std::string &types,
                            const std::string &knobs = "") {
    std::string names, argumentTypes;
    for (llvm::StringRef rest = arguments; !rest.empty();) {
      auto [one, others] = rest.split("%");
      auto [name, type] = one.split(": ");
      if (!name.empty()) {
        type = type.rtrim().rtrim(",");
        names += (names.empty() ? "%" : ", %") + name.str();
        argumentTypes += (argumentTypes.empty() ? "" : ", ") + type.str();
      }
      rest = others;
    }
    const bool one = results.find(',') == std::string::npos && !results.empty();
    const std::string count = std::to_string(1 + llvm::count(results, ','));
    const std::string returned = results.empty() ? "" : one ? "%r" : "%r#0, %r#1";
    return fmt::format(R"mlir(
transformer.kernel @k({arguments}) -> ({types}) attributes {{
    schedule = #transformer.schedule<{{method = {method} : i64{knobs}}}>}} {{
  {body}
  transformer.yield {results} : {types}
}}
func.func @f({arguments}) -> ({types}) {{
  {lhs} transformer.launch @k({names}) : ({argumentTypes}) -> ({types})
  return {returned} : {types}
}})mlir",
                       fmt::arg("arguments", arguments), fmt::arg("types", types),
                       fmt::arg("method", methodNumber()), fmt::arg("knobs", knobs),
                       fmt::arg("body", body), fmt::arg("results", results),
                       fmt::arg("lhs", one ? "%r =" : "%r:" + count + " ="),
                       fmt::arg("names", names), fmt::arg("argumentTypes", argumentTypes),
                       fmt::arg("returned", returned));
  }

  /// A function that brings a quantized weight into planes and launches a kernel that multiplies.
  static std::string quantized(int m, int n, int k, const std::string &weight,
                               const std::string &numerics = "", const std::string &knobs = "",
                               const std::string &input = "f32", bool isNormed = false) {
    const std::string file = fmt::format("tensor<{}x{}x!transformer.quant<{}>>", n, k, weight);
    const std::string planes = file.substr(0, file.size() - 1) + ", #transformer.layout<planes>>";
    const std::string rows = fmt::format("tensor<{}x{}x{}>", m, k, input);
    return fmt::format(
        R"mlir(
transformer.kernel @k(%x: {rows}, %g: tensor<{k}xf32>, %w: {planes}) -> tensor<{m}x{n}xf32> attributes {{
    schedule = #transformer.schedule<{{method = {method} : i64{knobs}}}>}} {{
  {norm}
  %y = transformer.matmul {multiplied} weights(%w) {{{numerics}}} : ({rows}, {planes}) -> tensor<{m}x{n}xf32>
  transformer.yield %y : tensor<{m}x{n}xf32>
}}
func.func @f(%x: {rows}, %g: tensor<{k}xf32>, %w: {file}) -> tensor<{m}x{n}xf32> {{
  %p = transformer.pack %w : {file} to {planes}
  %r = transformer.launch @k(%x, %g, %p) : ({rows}, tensor<{k}xf32>, {planes}) -> tensor<{m}x{n}xf32>
  return %r : tensor<{m}x{n}xf32>
}})mlir",
        fmt::arg("rows", rows), fmt::arg("planes", planes), fmt::arg("file", file),
        fmt::arg("m", m), fmt::arg("n", n), fmt::arg("k", k), fmt::arg("method", methodNumber()),
        fmt::arg("knobs", knobs),
        fmt::arg("norm", isNormed ? fmt::format("%h = transformer.rms_norm %x, %g {{epsilon = "
                                                "1.0e-5}} : ({0}, tensor<{1}xf32>) -> {0}",
                                                rows, k)
                                  : ""),
        fmt::arg("multiplied", isNormed ? "%h" : "%x"),
        fmt::arg("numerics", numerics.empty() ? ""
                                              : "numerics = #transformer.numerics<multiply = " +
                                                    numerics + ">"));
  }

  void expectRight(const std::string &text) {
    auto outcome = runFunction(text, options);
    ASSERT_TRUE(outcome) << outcome.error().line() << text;
    EXPECT_TRUE(outcome->isRight()) << outcome->why() << text;
  }

  SessionOptions options;
  Target whole, without; ///< with all that the device has, and without subgroups
};

/// A norm, gate and up with their activation, and a residual.
constexpr const char *gateText[] = {
    "%x: tensor<2x96xf32>, %n: tensor<96xf32>, %g: tensor<70x96xf16>, %u: tensor<70x96xf16>, "
    "%z: tensor<2x70xf32>",
    R"(%h = transformer.rms_norm %x, %n {epsilon = 1.0e-5}
      : (tensor<2x96xf32>, tensor<96xf32>) -> tensor<2x96xf32>
  %a, %b = transformer.matmul %h weights(%g, %u)
      : (tensor<2x96xf32>, tensor<70x96xf16>, tensor<70x96xf16>) -> (tensor<2x70xf32>, tensor<2x70xf32>)
  %s = transformer.activation %a <silu> : tensor<2x70xf32>
  %p = transformer.mul %s, %b : tensor<2x70xf32>
  %y = transformer.add %p, %z : tensor<2x70xf32>)"};

} // namespace

TEST_F(MatmulRows, EveryWeightTypeAndSize) {
  for (const char *weight : {"f32", "f16", "bf16"})
    for (int k : {256, 100, 99})
      expectRight(matmul(k % 5 + 1, 37, k, k % 2 ? "f32" : weight, weight));
}

TEST_F(MatmulRows, EveryNumberOfRows) {
  for (int m : {1, 2, 3, 5, 8, 19})
    expectRight(matmul(m, 50, 200, m % 2 == 0 ? "f32" : "f16", "f16"));
}

TEST_F(MatmulRows, EveryKnob) {
  // Legal with subgroups of any size.
  for (const char *knobs : {
           ", r = 1 : i64, lanes = 4 : i64, ks = 16 : i64, u = 2 : i64, threads = 64 : i64",
           ", r = 2 : i64, lanes = 4 : i64, ks = 1 : i64, u = 1 : i64, threads = 8 : i64",
           ", r = 4 : i64, lanes = 4 : i64, ks = 8 : i64, u = 4 : i64, threads = 64 : i64, "
           "pieces = 3 : i64",
           ", r = 4 : i64, lanes = 1 : i64, ks = 2 : i64, u = 8 : i64, rows = 2 : i64",
           ", r = 8 : i64, lanes = 4 : i64, ks = 1 : i64, threads = 4 : i64, rows = 1 : i64",
           ", r = 1 : i64, lanes = 4 : i64, ks = 2 : i64, u = 2 : i64, threads = 32 : i64, "
           "stage = 1 : i64",
       })
    expectRight(matmul(3, 77, 1000, "f16", "f16", knobs));
}

TEST_F(MatmulRows, WithoutSubgroups) {
  useSubgroups(false);
  expectRight(matmul(4, 61, 328, "f32", "bf16"));
  expectRight(kernel(gateText[0], gateText[1], "%y", "tensor<2x70xf32>"));
}

TEST_F(MatmulRows, NormsGatesAndResiduals) {
  for (const char *knobs : {"", ", pieces = 2 : i64, lanes = 4 : i64, ks = 2 : i64"})
    expectRight(kernel(gateText[0], gateText[1], "%y", "tensor<2x70xf32>", knobs));
}

TEST_F(MatmulRows, PickedRowsAndLayerNormsOfOddWidths) {
  expectRight(kernel(
      "%x: tensor<7x99xf16>, %i: tensor<3xi32>, %n: tensor<99xf32>, %b: tensor<99xf32>, "
      "%w: tensor<33x99xf32>, %c: tensor<33xf32>",
      R"(%g = transformer.gather_rows %x, %i : (tensor<7x99xf16>, tensor<3xi32>) -> tensor<3x99xf16>
  %h = transformer.layer_norm %g, %n, %b {epsilon = 1.0e-5}
      : (tensor<3x99xf16>, tensor<99xf32>, tensor<99xf32>) -> tensor<3x99xf16>
  %m = transformer.matmul %h weights(%w) bias(%c)
      : (tensor<3x99xf16>, tensor<33x99xf32>, tensor<33xf32>) -> tensor<3x33xf32>
  %y = transformer.activation %m <gelu> : tensor<3x33xf32>)",
      "%y", "tensor<3x33xf32>"));
}

TEST_F(MatmulRows, QueriesKeysAndValuesInOneKernel) {
  for (const char *knobs :
       {"", ", pieces = 2 : i64, lanes = 1 : i64, ks = 4 : i64, r = 2 : i64, threads = 4 : i64"})
    for (int64_t bindings : {16, 8}) { // one phase, or one of each
      options.target.limits.bindings = bindings;
      expectRight(kernel(
          "%x: tensor<2x64xf32>, %n: tensor<64xf32>, %q: tensor<96x64xf16>, %k: tensor<48x64xf16>, "
          "%v: tensor<48x64xf16>, %p: tensor<2xi32>, %t: tensor<32x24xf32>, %s: tensor<2xi32>, "
          "%kc: !transformer.cache<2, 24, f16>, %vc: !transformer.cache<2, 24, f16>",
          R"(%h = transformer.rms_norm %x, %n {epsilon = 1.0e-5}
      : (tensor<2x64xf32>, tensor<64xf32>) -> tensor<2x64xf32>
  %a:3 = transformer.matmul %h weights(%q, %k, %v)
      : (tensor<2x64xf32>, tensor<96x64xf16>, tensor<48x64xf16>, tensor<48x64xf16>)
      -> (tensor<2x96xf32>, tensor<2x48xf32>, tensor<2x48xf32>)
  %y = transformer.rope %a#0, %p, %t <half_split> {headDim = 24 : i64}
      : (tensor<2x96xf32>, tensor<2xi32>, tensor<32x24xf32>) -> tensor<2x96xf32>
  %b = transformer.rope %a#1, %p, %t <half_split> {headDim = 24 : i64}
      : (tensor<2x48xf32>, tensor<2xi32>, tensor<32x24xf32>) -> tensor<2x48xf32>
  transformer.cache_append %b, %s into %kc
      : !transformer.cache<2, 24, f16>, tensor<2x48xf32>, tensor<2xi32>
  transformer.cache_append %a#2, %s into %vc
      : !transformer.cache<2, 24, f16>, tensor<2x48xf32>, tensor<2xi32>)",
          "%y", "tensor<2x96xf32>", knobs));
    }
}

TEST_F(MatmulRows, PairsSideBySideNeedWholeHeads) {
  expectRight(kernel(
      "%x: tensor<1x128xf16>, %q: tensor<72x128xf16>, %p: tensor<1xi32>, %t: tensor<32x20xf32>",
      R"(%a = transformer.matmul %x weights(%q)
      : (tensor<1x128xf16>, tensor<72x128xf16>) -> tensor<1x72xf32>
  %y = transformer.rope %a, %p, %t <interleaved> {headDim = 24 : i64}
      : (tensor<1x72xf32>, tensor<1xi32>, tensor<32x20xf32>) -> tensor<1x72xf32>)",
      "%y", "tensor<1x72xf32>"));
}

TEST_F(MatmulRows, EveryQuantizedType) {
  for (const std::string &weight : quantizedTypeNames())
    expectRight(quantized(1, 37, 512, weight, "", ", u = 1 : i64", "f16"));
  for (const char *weight : {"q8_0", "q4_k", "q5_k", "q6_k", "q2_k", "q3_k"}) // whose units differ
    expectRight(quantized(2, 19, 256, weight, "", ", r = 1 : i64, u = 1 : i64", "f32",
                          /*isNormed=*/true));
  expectRight(quantized(3, 37, 768, "q4_1", "", ", r = 2 : i64, lanes = 4 : i64, ks = 2 : i64"));
  // Rows that are read where they lie, and from workgroup memory.
  for (const char *weight : {"q8_0", "q5_0", "q4_k"})
    for (const char *knobs : {", r = 4 : i64, stage = 0 : i64", ", u = 2 : i64, stage = 1 : i64"})
      expectRight(quantized(2, 19, 512, weight, "", knobs, "bf16"));
}

TEST_F(MatmulRows, WholeNumbersOfEveryQuantizedType) {
  if (!options.target.has("packed-dot"))
    GTEST_SKIP() << "no packed-dot";
  for (const std::string &weight : quantizedTypeNames())
    if (hasIntegers(weight))
      expectRight(quantized(1, 37, 512, weight, "i8x2", ", u = 1 : i64, prepare = 0 : i64"));
  for (const char *weight : {"q8_0", "q4_1", "q4_k"})
    expectRight(quantized(3, 19, 256, weight, "i8", ", u = 1 : i64, prepare = 1 : i64", "f16",
                          /*isNormed=*/true));
  // The other way round.
  expectRight(quantized(3, 19, 512, "q6_k", "i8x2", ", prepare = 1 : i64", "bf16"));
  // Four threads make a block, or each thread one.
  const std::string four = ", lanes = 4 : i64, ks = 1 : i64, threads = 4 : i64, prepare = 0 : i64";
  expectRight(quantized(2, 7, 256, "q4_0", "i8x2", four, "f32", /*isNormed=*/true));
  useSubgroups(false);
  expectRight(quantized(2, 19, 512, "q5_0", "i8x2", ", prepare = 0 : i64", "f16"));
  expectRight(quantized(2, 19, 512, "q4_k", "i8", ", prepare = 1 : i64"));
  useSubgroups(true);
  expectRight(quantized(3, 19, 512, "q6_k", "i8", ", prepare = 0 : i64", "f32", /*isNormed=*/true));
}

TEST_F(MatmulRows, GroupsOfSeveralTypes) {
  const std::string body = R"mlir(
!q = tensor<34x512x!transformer.quant<q4_k>>
!qp = tensor<34x512x!transformer.quant<q4_k>, #transformer.layout<planes>>
!v = tensor<18x512x!transformer.quant<q6_k>>
!vp = tensor<18x512x!transformer.quant<q6_k>, #transformer.layout<planes>>
!x = tensor<2x512xf32>
transformer.kernel @k(%x: !x, %q: !qp, %v: !vp) -> (tensor<2x34xf32>, tensor<2x18xf32>) attributes {
    schedule = #transformer.schedule<{method = METHOD : i64KNOBS}>} {
  %y:2 = transformer.matmul %x weights(%q, %v) NUMERICS : (!x, !qp, !vp) -> (tensor<2x34xf32>, tensor<2x18xf32>)
  transformer.yield %y#0, %y#1 : tensor<2x34xf32>, tensor<2x18xf32>
}
func.func @f(%x: !x, %q: !q, %v: !v) -> (tensor<2x34xf32>, tensor<2x18xf32>) {
  %a = transformer.pack %q : !q to !qp
  %b = transformer.pack %v : !v to !vp
  %r:2 = transformer.launch @k(%x, %a, %b) : (!x, !qp, !vp) -> (tensor<2x34xf32>, tensor<2x18xf32>)
  return %r#0, %r#1 : tensor<2x34xf32>, tensor<2x18xf32>
})mlir";
  auto with = [&](const std::string &numerics, const std::string &knobs) {
    std::string text = body;
    for (const auto &[word, by] :
         {std::pair<std::string, std::string>("METHOD", std::to_string(methodNumber())),
          {"KNOBS", knobs},
          {"NUMERICS", numerics}})
      text.replace(text.find(word), word.size(), by);
    return text;
  };
  expectRight(with("", ""));
  if (options.target.has("packed-dot"))
    for (const char *knobs : {", prepare = 0 : i64", ", prepare = 1 : i64"})
      expectRight(with("{numerics = #transformer.numerics<multiply = i8x2>}", knobs));
}

TEST_F(MatmulRows, NumbersRoundedToF16) {
  for (const char *weight : {"f16", "f32"}) {
    std::string text = matmul(2, 37, 256, "f32", weight);
    const std::string before = "weights(%w) : ";
    text.replace(text.find(before), before.size(),
                 "weights(%w) {numerics = #transformer.numerics<multiply = f16>} : ");
    expectRight(text);
  }
  for (const std::string &weight : quantizedTypeNames())
    expectRight(quantized(2, 37, 256, weight, "f16", ", u = 1 : i64"));
}
