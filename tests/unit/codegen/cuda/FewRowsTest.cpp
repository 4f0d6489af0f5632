// Matmuls of few rows on CUDA, their PTX emulated: every weight type, sizes that are multiples of
// nothing, every knob, what comes before the matmul and what follows it. The emulation takes care
// that phases which start early touch weights alone before they wait.
#include "../../compiler/RunFunction.h"
#include "../../support/WeightTypes.h"
#include "EmulatedCudaDevice.h"
#include "kernelforge/codegen/cuda/Methods.h"
#include "kernelforge/codegen/simt/Methods.h"
#include "kernelforge/compiler/Targets.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

/// Numbers of the methods.
constexpr int rowsMethod = 3, narrowMethod = 4, partsMethod = 5;

/// A function that launches a kernel of this body, all of whose weights (`%w` and what begins with
/// it) are marked.
std::string kernel(int method, const std::string &knobs, const std::string &arguments,
                   const std::string &body, const std::string &type) {
  std::string marked, names, types;
  for (llvm::StringRef rest = arguments; !rest.empty();) {
    const auto [one, others] = rest.split(" ; ");
    const auto [name, kind] = one.split(": ");
    const std::string mark =
        name.starts_with("%w") ? fmt::format(" {{transformer.weight = \"{}\"}}", name.str()) : "";
    marked += fmt::format("{}{}{}", marked.empty() ? "" : ", ", one.str(), mark);
    names += fmt::format("{}{}", names.empty() ? "" : ", ", name.str());
    types += fmt::format("{}{}", types.empty() ? "" : ", ", kind.str());
    rest = others;
  }
  return fmt::format(
      "transformer.kernel @k({0}) -> {1} attributes {{schedule = "
      "#transformer.schedule<{{method = {2}{3}}}>}} {{\n{4}\ntransformer.yield %y : "
      "{1}\n}}\nfunc.func @f({0}) -> {1} {{\n%r = transformer.launch @k({5}) : ({6}) "
      "-> ({1})\nreturn %r : {1}\n}}\n",
      marked, type, method, knobs, body, names, types);
}

std::string weightOf(int n, int k, const std::string &element) {
  const bool isQuantized = info(*elementTypeByName(element)).isQuantized();
  return isQuantized ? fmt::format("tensor<{}x{}x!transformer.quant<{}>, "
                                   "#transformer.layout<planes>>",
                                   n, k, element)
                     : fmt::format("tensor<{}x{}x{}>", n, k, element);
}

std::string matmul(int method, const std::string &knobs, int m, int n, int k,
                   const std::string &rows, const std::string &weight,
                   const std::string &numerics = "", const std::string &result = "f32") {
  const std::string in = fmt::format("tensor<{}x{}x{}>", m, k, rows),
                    out = fmt::format("tensor<{}x{}x{}>", m, n, result),
                    stored = weightOf(n, k, weight);
  const std::string words =
      numerics.empty()
          ? ""
          : fmt::format(" {{numerics = #transformer.numerics<multiply = {}>}}", numerics);
  return kernel(method, knobs, fmt::format("%x: {} ; %w: {}", in, stored),
                fmt::format("%y = transformer.matmul %x weights(%w){} : ({}, {}) -> ({})", words,
                            in, stored, out),
                out);
}

void expectRight(const std::string &text) {
  SessionOptions options = testOptions(*parseTarget("cuda", "sm_90a", ""));
  options.openDevice = [] { return Expected<std::unique_ptr<Device>>(createEmulatedCudaDevice()); };
  auto outcome = runFunction(text, options);
  ASSERT_TRUE(outcome) << outcome.error().line() << text;
  EXPECT_TRUE(outcome->isRight()) << outcome->why() << text;
}

std::string gate(int method, const std::string &knobs, int m, int k, const std::string &element) {
  const std::string x = fmt::format("tensor<{}x{}xf32>", m, k),
                    y = fmt::format("tensor<{}x70xbf16>", m), w = weightOf(70, k, element);
  return kernel(
      method, knobs,
      fmt::format(
          "%x: {0} ; %n: tensor<{1}xf32> ; %wg: {2} ; %wu: {2} ; %c: tensor<70xf32> ; %z: {3}", x,
          k, w, y),
      fmt::format(
          "%h = transformer.rms_norm %x, %n {{epsilon = 1.0e-5}} : ({0}, tensor<{1}xf32>) -> "
          "{0}\n%a, %b = transformer.matmul %h weights(%wg, %wu) bias(%c, %c) {{numerics = "
          "#transformer.numerics<multiply = {4}>}} : ({0}, {2}, {2}, tensor<70xf32>, "
          "tensor<70xf32>) -> ({3}, {3})\n%s = transformer.activation %a <silu> : {3}\n%p = "
          "transformer.mul %s, %b : {3}\n%y = transformer.add %p, %z : {3}",
          x, k, w, y,
          element[0] != 'q'       ? element
          : method == partsMethod ? "f32"
                                  : "i8x2"),
      y);
}

/// Queries, keys and values of heads of 32, rotated and appended.
std::string queries(int method, const std::string &knobs) {
  const std::string x = "tensor<2x64xbf16>", q = "tensor<2x96xbf16>", k = "tensor<2x64xbf16>";
  return kernel(
      method, knobs,
      "%x: " + x +
          " ; %wq: tensor<96x64xbf16> ; %wk: tensor<64x64xbf16> ; %wv: tensor<64x64xbf16> ; "
          "%p: tensor<2xi32> ; %t: tensor<32x32xf32> ; %s: tensor<2xi32> ; %kc: "
          "!transformer.cache<2, 32, "
          "f16> ; %vc: !transformer.cache<2, 32, f16>",
      fmt::format("%a:3 = transformer.matmul %x weights(%wq, %wk, %wv) : ({0}, tensor<96x64xbf16>, "
                  "tensor<64x64xbf16>, tensor<64x64xbf16>) -> ({1}, {2}, {2})\n"
                  "%y = transformer.rope %a#0, %p, %t <half_split> {{headDim = 32 : i64}} : ({1}, "
                  "tensor<2xi32>, tensor<32x32xf32>) -> {1}\n%b = transformer.rope %a#1, %p, %t "
                  "<half_split> "
                  "{{headDim = 32 : i64}} : ({2}, tensor<2xi32>, tensor<32x32xf32>) -> {2}\n"
                  "transformer.cache_append %b, %s into %kc : !transformer.cache<2, 32, f16>, {2}, "
                  "tensor<2xi32>\ntransformer.cache_append %a#2, %s into %vc : "
                  "!transformer.cache<2, 32, f16>, "
                  "{2}, tensor<2xi32>",
                  x, q, k),
      q);
}

} // namespace

TEST(CudaFewRows, MethodsHaveTheirNumbers) {
  const auto methods = cuda::methods().ofFamily(KernelFamily::Matmul);
  EXPECT_EQ(methods[rowsMethod]->name(), "rows");
  EXPECT_EQ(methods[narrowMethod]->name(), "narrow");
  EXPECT_EQ(methods[partsMethod]->name(), "parts");
}

TEST(CudaFewRows, EveryTypeOfPlainWeights) {
  for (const char *weight : {"f32", "f16", "bf16"})
    for (int k : {256, 100, 99})
      expectRight(matmul(rowsMethod, "", k % 5 + 1, 37, k, k % 2 ? "f32" : weight, weight));
}

TEST(CudaFewRows, EveryTypeOfQuantizedWeights) {
  for (const std::string &weight : quantizedTypeNames()) {
    expectRight(matmul(rowsMethod, "", 1, 37, 512, "bf16", weight));
    if (hasIntegers(weight))
      expectRight(matmul(rowsMethod, ", u = 1", 3, 19, 512, "f32", weight, "i8x2"));
    expectRight(matmul(rowsMethod, ", u = 1", 2, 19, 256, "f32", weight, "bf16", "bf16"));
  }
}

TEST(CudaFewRows, EveryKnob) {
  for (const char *knobs :
       {", r = 1, lanes = 32, ks = 1, u = 1, threads = 64, ahead = 1, stage = 0",
        ", r = 2, lanes = 4, ks = 2, u = 1, ahead = 1, stage = 1"})
    for (const char *weight : {"q4_k", "q5_k", "q6_k", "q2_k", "q3_k", "iq4_xs"})
      expectRight(matmul(rowsMethod, knobs, 1, 21, 1280, "f32", weight));
  for (const char *knobs :
       {", r = 1, lanes = 32, ks = 2, u = 1, threads = 128, ahead = 1",
        ", r = 2, lanes = 32, ks = 1, u = 1, threads = 64, ahead = 1, early = 0",
        ", r = 4, lanes = 4, ks = 8, u = 2, threads = 64, pieces = 3",
        ", r = 1, lanes = 8, ks = 1, u = 1, rows = 2, ahead = 1",
        ", r = 2, lanes = 32, ks = 2, u = 2, threads = 64, stage = 1, ahead = 1"}) {
    expectRight(matmul(rowsMethod, knobs, 3, 77, 1064, "bf16", "bf16"));
  }
}

TEST(CudaFewRows, ByMatrixUnitsOfAWarp) {
  for (const char *element : {"bf16", "f16"})
    for (int m : {1, 3, 8, 13, 32})
      expectRight(matmul(narrowMethod, "", m, 37 + m, 288, element, element));
  expectRight(matmul(narrowMethod, "", 5, 40, 512, "f32", "bf16", "bf16", "bf16"));
}

TEST(CudaFewRows, QuantsByMatrixUnitsOfAWarp) {
  for (const std::string &weight : quantizedTypeNames()) {
    expectRight(matmul(narrowMethod, "", 3, 37, 512, "f32", weight, "bf16", "bf16"));
    expectRight(matmul(narrowMethod, ", warps = 2, ks = 1, u = 1, ahead = 1", 9, 21, 1024, "f16",
                       weight, "f16", "f16"));
  }
}

TEST(CudaFewRows, QuantsByPartsOfRows) {
  for (const std::string &weight : quantizedTypeNames()) {
    for (int m : {1, 3})
      expectRight(matmul(partsMethod, "", m, 37, 512, "f32", weight));
    expectRight(
        matmul(partsMethod, ", warps = 2, ks = 1, u = 1, ahead = 1", 6, 21, 1280, "f16", weight));
    expectRight(
        matmul(partsMethod, ", warps = 8, ks = 4, u = 1, early = 0", 9, 21, 4096, "bf16", weight));
  }
}

TEST(CudaFewRows, EveryKnobOfMatrixUnitsOfAWarp) {
  for (const char *knobs :
       {", warps = 4, ks = 1, u = 2, ahead = 1", ", warps = 8, ks = 8, u = 1, ahead = 1, early = 0",
        ", warps = 16, ks = 4, u = 4", ", warps = 2, ks = 2, u = 8, rows = 8",
        ", warps = 1, ks = 1, u = 3, ahead = 1"})
    expectRight(matmul(narrowMethod, knobs, 11, 75, 1056, "bf16", "bf16"));
}

TEST(CudaFewRows, NormsGatesAndResiduals) {
  expectRight(gate(rowsMethod, "", 2, 96, "bf16"));
  expectRight(gate(rowsMethod, "", 3, 512, "q4_k"));
  expectRight(gate(rowsMethod, ", prepare = 1", 2, 256, "q6_k"));
  expectRight(gate(narrowMethod, "", 9, 96, "bf16"));
  for (const char *weight : {"q8_0", "q4_k", "q5_0"})
    expectRight(gate(partsMethod, "", 2, 512, weight));
}

TEST(CudaFewRows, QueriesKeysAndValuesAreRotatedAndAppended) {
  expectRight(queries(rowsMethod, ""));
  expectRight(queries(rowsMethod, ", pieces = 2, lanes = 1, ks = 4, r = 2, threads = 4"));
  expectRight(queries(narrowMethod, ", warps = 4, ks = 2, u = 2"));
}

TEST(CudaFewRows, RowsMayTakeMoreSharedMemoryThanABlockDeclares) {
  // 7 rows of 2,048 f32 are 56 KiB.
  expectRight(gate(rowsMethod, ", rows = 7, r = 1, threads = 64, lanes = 32, ks = 2, u = 1", 7,
                   2048, "bf16"));
}
