// Matmuls of many rows by each method and its knobs, on the software driver: every kernel has its
// schedule pinned, and its results were poisoned before.
#include "../../compiler/RunFunction.h"
#include "../../support/WeightTypes.h"
#include "WebGpuFixture.h"

#include "kernelforge/codegen/CodeGenerator.h"
#include "kernelforge/compiler/Targets.h"

#include <fmt/format.h>

using namespace kernelforge;

namespace {

/// A kernel of one function: `arguments` are types by name, those of weights and vectors marked.
struct Kernel {
  std::vector<std::pair<std::string, std::string>> arguments;
  std::string body, result; ///< the body ends with the value %y

  std::string text(const std::string &schedule) const {
    // Weights in planes are packed before: a function gets them as they lie in a file.
    const std::string layout = ", #transformer.layout<planes>";
    std::string ofKernel, ofFunction, packs, names, types;
    for (const auto &[name, type] : arguments) {
      const char *between = names.empty() ? "" : ", ";
      std::string plain = type, value = "%" + name;
      if (const size_t at = plain.find(layout); at != std::string::npos) {
        plain.erase(at, layout.size());
        value += "_packed";
        packs += fmt::format("{} = transformer.pack %{} : {} to {}\n", value, name, plain, type);
      }
      const std::string mark =
          name.starts_with("w") ? fmt::format(" {{transformer.weight = \"{}\"}}", name) : "";
      // What was packed in the function lies among what is written, and is no weight to the kernel.
      ofKernel += fmt::format("{}%{}: {}{}", between, name, type, plain == type ? mark : "");
      ofFunction += fmt::format("{}%{}: {}{}", between, name, plain, mark);
      names += between + value;
      types += between + type;
    }
    return fmt::format("transformer.kernel @k({0}) -> {1} attributes {{schedule = "
                       "#transformer.schedule<{{{2}}}>}} {{\n{3}\ntransformer.yield %y : {1}\n}}\n"
                       "func.func @f({6}) -> {1} {{\n{7}%y = transformer.launch @k({4}) : ({5}) -> "
                       "{1}\nreturn %y : {1}\n}}\n",
                       ofKernel, result, schedule, body, names, types, ofFunction, packs);
  }
};

std::string rows(int64_t m, int64_t width, const std::string &type = "f32") {
  return fmt::format("tensor<{}x{}x{}>", m, width, type);
}

/// x [m, k] times a weight.
Kernel plainMatmul(int64_t m, int64_t n, int64_t k, const std::string &input = "f32",
                   const std::string &weight = "f32", bool transpose = false,
                   const std::string &numerics = "") {
  const std::string x = rows(m, k, input), y = rows(m, n);
  const std::string w = transpose ? rows(k, n, weight) : rows(n, k, weight);
  std::string attributes = transpose ? "transpose" : "";
  if (!numerics.empty())
    attributes += (transpose ? ", " : "") + ("numerics = #transformer.numerics<" + numerics + ">");
  return {{{"x", x}, {"w", w}},
          fmt::format("%y = transformer.matmul %x weights(%w) {{{}}} : ({}, {}) -> {}", attributes,
                      x, w, y),
          y};
}

/// The element type of a quantized weight in planes, as text that follows a shape.
std::string inPlanes(const std::string &type) {
  return "!transformer.quant<" + type + ">, #transformer.layout<planes>";
}

/// Runs kernels on the device of the tests. Skips them where there is none.
class WebGpuMatmul : public testing::Test {
protected:
  void SetUp() override {
    Expected<std::unique_ptr<Device>> device = testTarget().createForKernels();
    if (!device) {
      if (std::getenv(testTarget().requiredBy))
        FAIL() << device.error().line();
      GTEST_SKIP() << device.error().line();
    }
    auto target = (*findGenerator("webgpu"))->parse("", "", &(*device)->info());
    ASSERT_TRUE(target) << target.error().line();
    target->enabled.insert(target->enabled.end(), features.begin(), features.end());
    std::ranges::sort(target->enabled);
    options = testOptions(*target);
    options.openDevice = testTarget().createForKernels;
  }

  void expectRight(const Kernel &kernel, const std::string &schedule) {
    expectRight(kernel.text(schedule));
  }
  void expectRight(const std::string &text) {
    auto outcome = runFunction(text, options);
    ASSERT_TRUE(outcome) << outcome.error().line() << "\n" << text;
    EXPECT_TRUE(outcome->isRight()) << outcome->why() << "\n" << text;
  }

  std::vector<std::string> features; ///< beside those of the device
  SessionOptions options;
};

/// A schedule of the method `tiles`.
std::string tiles(int bm, int bn, int bk, int tm, int tn, int stages = 1, int ksplit = 1) {
  return fmt::format("method = 1, bm = {}, bn = {}, bk = {}, tm = {}, tn = {}, stages = {}, "
                     "ksplit = {}",
                     bm, bn, bk, tm, tn, stages, ksplit);
}

} // namespace

TEST_F(WebGpuMatmul, TilesOfEachShape) {
  const Kernel kernel = plainMatmul(65, 132, 100);
  for (const std::string &schedule :
       {tiles(128, 128, 8, 8, 8), tiles(64, 128, 16, 8, 8), tiles(64, 64, 16, 4, 8, 2),
        tiles(32, 64, 32, 4, 4), tiles(16, 128, 16, 4, 4), tiles(16, 64, 8, 4, 8, 2)})
    expectRight(kernel, schedule);
}

/// A stage has more pieces side by side than 32 threads bring in blocks of four rows.
TEST_F(WebGpuMatmul, TilesOfFewThreadsAndDeepStages) {
  expectRight(plainMatmul(37, 67, 132), tiles(32, 32, 64, 8, 4) + ", turn = 1");
}

TEST_F(WebGpuMatmul, TilesOfOddSizes) {
  for (const auto &[m, n, k] : {std::array{1, 5, 7}, std::array{3, 130, 36}, std::array{65, 5, 100},
                                std::array{33, 64, 64}, std::array{2, 3, 1}})
    for (bool transpose : {false, true})
      expectRight(plainMatmul(m, n, k, "f32", "f32", transpose), tiles(32, 64, 16, 4, 4));
}

TEST_F(WebGpuMatmul, TilesInBands) {
  expectRight(plainMatmul(35, 1100, 16), tiles(16, 64, 16, 4, 8));
  expectRight(plainMatmul(35, 1100, 32), tiles(16, 64, 8, 4, 8, 1, 2));
}

namespace {

/// A function of one kernel with up to 45 rows %x, as many as a size says. The body gives %y from
/// that and from arguments by name and type, of which all but %r are weights.
std::string ofSizedRows(int width, int columns,
                        const std::vector<std::pair<std::string, std::string>> &others,
                        const std::string &body, const std::string &schedule) {
  std::string arguments =
      "%n: index {transformer.size = #transformer.size<\"tokens\", 1 to 45>}, %x: !rows";
  std::string names = "%n, %x", types = "index, !rows";
  for (const auto &[name, type] : others) {
    arguments += fmt::format(", %{}: {}", name, type);
    if (name != "r")
      arguments += fmt::format(" {{transformer.weight = \"{}\"}}", name);
    names += ", %" + name;
    types += ", " + type;
  }
  return fmt::format(
      R"mlir(!rows = tensor<?x{0}xf32, #transformer.dims<"tokens">>
!results = tensor<?x{1}xf32, #transformer.dims<"tokens">>
transformer.kernel @k({2}) -> !results attributes {{schedule = #transformer.schedule<{{{3}}}>}} {{
  {4}
  transformer.yield %y : !results
}}
func.func @f({2}) -> !results {{
  %y = transformer.launch @k({5}) : ({6}) -> !results
  return %y : !results
}})mlir",
      width, columns, arguments, schedule, body, names, types);
}

} // namespace

TEST_F(WebGpuMatmul, TilesOfRowsThatFollowASize) {
  for (const std::string &schedule : {tiles(32, 64, 16, 4, 4), tiles(16, 64, 8, 4, 8, 2, 3)})
    expectRight(ofSizedRows(
        36, 68, {{"s", "tensor<36xf32>"}, {"w", "tensor<68x36xf32>"}, {"r", "!results"}},
        R"mlir(%m = transformer.rms_norm %x, %s {epsilon = 1.0e-5} : (!rows, tensor<36xf32>) -> !rows
  %a = transformer.matmul %m weights(%w) : (!rows, tensor<68x36xf32>) -> !results
  %y = transformer.add %a, %r : !results)mlir",
        schedule));
}

TEST_F(WebGpuMatmul, TilesShareOutK) {
  for (const auto &[k, ksplit] :
       {std::array{100, 3}, std::array{100, 7}, std::array{64, 2}, std::array{7, 4}})
    expectRight(plainMatmul(35, 68, k), tiles(32, 64, 8, 4, 4, 1, ksplit));
}

TEST_F(WebGpuMatmul, TilesOfNarrowTypes) {
  for (const char *input : {"f32", "f16", "bf16"})
    for (const char *weight : {"f16", "bf16"})
      expectRight(plainMatmul(35, 68, 36, input, weight), tiles(32, 64, 16, 4, 4));
  expectRight(plainMatmul(35, 66, 37, "f16", "f16"), tiles(32, 64, 16, 4, 4));
  expectRight(plainMatmul(35, 68, 36, "f32", "f16", /*transpose=*/true), tiles(32, 64, 16, 4, 4));
  expectRight(plainMatmul(35, 68, 64, "f32", "!transformer.quant<q8_0>"), tiles(32, 64, 16, 4, 4));
  expectRight(plainMatmul(35, 68, 256, "f32", "!transformer.quant<q4_k>"), tiles(32, 64, 16, 4, 4));
}

namespace {

/// With matrices of a subgroup, which are printed as plain code.
class WebGpuMatrices : public WebGpuMatmul {
protected:
  WebGpuMatrices() { features = {"emulated-matrices", "subgroup-matrix-f16-16x16x16"}; }
};

/// A schedule of the method `matrices`.
std::string matrices(int bm, int bn, int bk, int wm, int wn, int ksplit = 1) {
  return fmt::format("method = 2, bm = {}, bn = {}, bk = {}, wm = {}, wn = {}, ksplit = {}", bm, bn,
                     bk, wm, wn, ksplit);
}

/// gelu(x w^T + bias) + residual, of which f16 is stored.
Kernel withEpilogue(int64_t m, int64_t n, int64_t k, const std::string &result,
                    const std::string &numerics = "f32") {
  const std::string x = rows(m, k), w = rows(n, k), y = rows(m, n), z = rows(m, n, result);
  return {{{"x", x}, {"w", w}, {"b", fmt::format("tensor<{}xf32>", n)}, {"r", y}},
          fmt::format("%a = transformer.matmul %x weights(%w) bias(%b) {{numerics = "
                      "#transformer.numerics<multiply = {5}>}} : ({0}, {1}, tensor<{4}xf32>) "
                      "-> {2}\n%g = transformer.activation %a <gelu> : {2}\n"
                      "%s = transformer.add %g, %r : {2}\n%y = transformer.cast %s : {2} to {3}",
                      x, w, y, z, n, numerics),
          z};
}

/// Rotates heads of `head` columns.
Kernel withRope(int64_t m, int64_t heads, int64_t head, int64_t k,
                const std::string &numerics = "f32") {
  const std::string x = rows(m, k), w = rows(heads * head, k), y = rows(m, heads * head);
  return {{{"x", x},
           {"w", w},
           {"p", fmt::format("tensor<{}xi32>", m)},
           {"t", fmt::format("tensor<64x{}xf32>", head)}},
          fmt::format("%a = transformer.matmul %x weights(%w) {{numerics = "
                      "#transformer.numerics<multiply = {5}>}} : ({0}, {1}) -> {2}\n"
                      "%y = transformer.rope %a, %p, %t <half_split> {{headDim = {3}}} : "
                      "({2}, tensor<{4}xi32>, tensor<64x{3}xf32>) -> {2}",
                      x, w, y, head, m, numerics),
          y};
}

/// Queries, keys and values of 35 rows, of which queries and keys are rotated, keys and values
/// appended.
std::string queriesKeysValues(const std::string &numerics, const std::string &schedule) {
  const std::string arguments =
      "%x: tensor<35x40xf32>, %q: !weight96 {transformer.weight = \"q\"}, %k: !weight48 "
      "{transformer.weight = \"k\"}, %v: !weight48 {transformer.weight = \"v\"}, %p: !ids, %t: "
      "!table, %s: !ids, %kc: !cache, %vc: !cache";
  return fmt::format(
      R"mlir(!weight96 = tensor<96x40xf16>
!weight48 = tensor<48x40xf16>
!ids = tensor<35xi32>
!table = tensor<64x24xf32>
!cache = !transformer.cache<2, 24, f16>
!y96 = tensor<35x96xf32>
!y48 = tensor<35x48xf32>
transformer.kernel @k({0}) -> !y96 attributes {{schedule = #transformer.schedule<{{{1}}}>}} {{
  %a:3 = transformer.matmul %x weights(%q, %k, %v) {{numerics = #transformer.numerics<multiply = {2}>}}
      : (tensor<35x40xf32>, !weight96, !weight48, !weight48) -> (!y96, !y48, !y48)
  %y = transformer.rope %a#0, %p, %t <half_split> {{headDim = 24}} : (!y96, !ids, !table) -> !y96
  %b = transformer.rope %a#1, %p, %t <half_split> {{headDim = 24}} : (!y48, !ids, !table) -> !y48
  transformer.cache_append %b, %s into %kc : !cache, !y48, !ids
  transformer.cache_append %a#2, %s into %vc : !cache, !y48, !ids
  transformer.yield %y : !y96
}}
func.func @f({0}) -> !y96 {{
  %y = transformer.launch @k(%x, %q, %k, %v, %p, %t, %s, %kc, %vc)
      : (tensor<35x40xf32>, !weight96, !weight48, !weight48, !ids, !table, !ids, !cache, !cache) -> !y96
  return %y : !y96
}})mlir",
      arguments, schedule, numerics);
}

/// silu(gate) * up of a norm of x.
Kernel gated(int64_t m, int64_t n, int64_t k, const std::string &numerics = "f32") {
  const std::string x = rows(m, k), w = rows(n, k), y = rows(m, n);
  return {
      {{"x", x}, {"s", fmt::format("tensor<{}xf32>", k)}, {"wg", w}, {"wu", w}},
      fmt::format("%n = transformer.rms_norm %x, %s {{epsilon = 1.0e-5}} : ({0}, tensor<{3}xf32>) "
                  "-> {0}\n%g, %u = transformer.matmul %n weights(%wg, %wu) {{numerics = "
                  "#transformer.numerics<multiply = {4}>}} : ({0}, {1}, {1}) -> "
                  "({2}, {2})\n%a = transformer.activation %g <silu> : {2}\n"
                  "%y = transformer.mul %a, %u : {2}",
                  x, w, y, k, numerics),
      y};
}

} // namespace

TEST_F(WebGpuMatmul, TilesAndWhatFollows) {
  const std::string schedule = tiles(32, 64, 16, 4, 4);
  expectRight(withEpilogue(35, 132, 36, "f32"), schedule);
  expectRight(withEpilogue(35, 68, 36, "f16"), schedule);
  expectRight(withEpilogue(35, 66, 36, "f16"), schedule);
  expectRight(withRope(35, 5, 24, 36), schedule);
  expectRight(gated(35, 68, 36), schedule);
}

TEST_F(WebGpuMatmul, TilesAndWhatFollowsSlices) {
  const std::string schedule = tiles(32, 64, 16, 4, 4, 2, 2);
  expectRight(withEpilogue(35, 66, 36, "f16"), schedule);
  expectRight(withRope(35, 5, 32, 36), schedule);
  expectRight(gated(3, 68, 37), schedule);
}

// Operands that stay along K in workgroup memory, where threads have columns in another order.
TEST_F(WebGpuMatmul, TilesAlongK) {
  for (const std::string &schedule :
       {tiles(64, 128, 16, 8, 8), tiles(32, 64, 8, 4, 4, 2), tiles(16, 128, 32, 4, 8, 1, 2)})
    expectRight(plainMatmul(65, 132, 100), schedule + ", turn = 0");
  expectRight(plainMatmul(65, 132, 100), tiles(64, 128, 16, 8, 8) + ", lanes = 4");
  expectRight(plainMatmul(35, 68, 36, "f16", "f16"), tiles(32, 64, 16, 4, 8) + ", turn = 0");
  for (bool transpose : {false, true})
    expectRight(plainMatmul(33, 70, 37, "f32", "f32", transpose),
                tiles(32, 64, 16, 4, 4) + ", turn = 0");
  expectRight(plainMatmul(35, 68, 256, "f32", inPlanes("q4_k")),
              tiles(32, 64, 32, 4, 4, 1, 3) + ", turn = 0");
  expectRight(gated(35, 68, 36), tiles(32, 64, 16, 4, 4) + ", turn = 0");
}

TEST_F(WebGpuMatmul, TilesOfSeveralGroups) {
  for (int64_t bindings : {16, 8}) { // one phase, or one of each
    options.target.limits.bindings = bindings;
    for (int ksplit : {1, 3})
      expectRight(queriesKeysValues("f32", tiles(16, 64, 8, 4, 4, 1, ksplit)));
  }
}

TEST_F(WebGpuMatmul, TilesOfWeightsInPlanes) {
  for (const char *type : {"q8_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "mxfp4"})
    expectRight(plainMatmul(35, 68, 96, "f32", inPlanes(type)), tiles(32, 64, 16, 4, 4));
  expectRight(plainMatmul(35, 68, 96, "f32", inPlanes("q4_0")), tiles(32, 64, 64, 4, 4));
  expectRight(plainMatmul(35, 68, 512, "f32", inPlanes("q4_k")), tiles(32, 64, 32, 4, 4, 1, 3));
  for (const std::string &type : quantizedTypeNames())
    expectRight(plainMatmul(5, 68, 256, "f32", inPlanes(type)), tiles(16, 64, 16, 4, 4, 2));
}

TEST_F(WebGpuMatmul, TilesOfPackedRows) {
  for (const auto &[n, k] : {std::pair{68, 36}, std::pair{66, 37}})
    expectRight(plainMatmul(35, n, k, "f16", "f32"), tiles(32, 64, 16, 4, 4) + ", pack = 1");
}

TEST_F(WebGpuMatmul, TilesRoundOperands) {
  expectRight(plainMatmul(35, 68, 36, "f32", "f32", false, "multiply = f16"),
              tiles(32, 64, 16, 4, 4));
  expectRight(plainMatmul(35, 66, 37, "f32", "f16", false, "multiply = bf16"),
              tiles(32, 64, 16, 4, 4));
  expectRight(gated(35, 68, 36, "f16"), tiles(32, 64, 16, 4, 4));
  for (const char *numerics : {"multiply = i8", "multiply = i8x2"})
    expectRight(plainMatmul(5, 68, 96, "f32", inPlanes("q8_0"), false, numerics),
                tiles(16, 64, 32, 4, 4));
}

TEST_F(WebGpuMatrices, OfEachShape) {
  const Kernel kernel = plainMatmul(35, 68, 72, "f16", "f16", false, "multiply = f16");
  for (const std::string &schedule : {matrices(64, 64, 16, 2, 2), matrices(32, 64, 64, 2, 2),
                                      matrices(32, 64, 32, 1, 4), matrices(16, 64, 32, 1, 4)})
    expectRight(kernel, schedule);
}

// Whole tiles are stored as matrices, others in strips.
TEST_F(WebGpuMatrices, OfWholeTiles) {
  expectRight(plainMatmul(64, 128, 48, "f16", "f16", false, "multiply = f16"),
              matrices(32, 64, 16, 2, 2));
  expectRight(ofSizedRows(40, 128, {{"w", "tensor<128x40xf16>"}},
                          "%y = transformer.matmul %x weights(%w) {numerics = "
                          "#transformer.numerics<multiply = f16>} : (!rows, tensor<128x40xf16>) "
                          "-> !results",
                          matrices(32, 64, 16, 1, 4)));
}

TEST_F(WebGpuMatrices, OfOddSizes) {
  for (const auto &[m, n, k] :
       {std::array{1, 5, 7}, std::array{3, 130, 36}, std::array{65, 5, 100}})
    for (bool transpose : {false, true})
      expectRight(plainMatmul(m, n, k, "f32", "f32", transpose, "multiply = f16"),
                  matrices(32, 64, 16, 1, 4));
}

TEST_F(WebGpuMatrices, OfEachType) {
  for (const auto &[input, weight] :
       {std::pair{"f32", "f16"}, std::pair{"f16", "f32"}, std::pair{"bf16", "bf16"},
        std::pair{"f32", "!transformer.quant<q8_0>"}})
    expectRight(plainMatmul(35, 68, 64, input, weight, false, "multiply = f16"),
                matrices(32, 64, 16, 1, 4));
  expectRight(plainMatmul(35, 66, 37, "f16", "f16", true, "multiply = f16"),
              matrices(32, 64, 16, 2, 2));
}

TEST_F(WebGpuMatrices, OfSeveralGroups) {
  options.target.limits.bindings = 16;
  for (int ksplit : {1, 2})
    expectRight(queriesKeysValues("f16", matrices(32, 64, 16, 2, 2, ksplit)));
}

TEST_F(WebGpuMatrices, OfWeightsInPlanes) {
  for (const char *type : {"q8_0", "q4_1"})
    expectRight(plainMatmul(35, 68, 96, "f32", inPlanes(type), false, "multiply = f16"),
                matrices(32, 64, 32, 1, 4));
  expectRight(plainMatmul(5, 68, 256, "f32", inPlanes("q4_k"), false, "multiply = f16"),
              matrices(16, 64, 64, 1, 4));
}

TEST_F(WebGpuMatrices, OfPackedRows) {
  for (int k : {40, 37})
    expectRight(plainMatmul(35, 68, k, "f32", "f16", false, "multiply = f16"),
                matrices(32, 64, 16, 1, 4) + ", pack = 1");
}

TEST_F(WebGpuMatrices, AndWhatFollows) {
  const std::string whole = matrices(32, 64, 32, 2, 2), slices = matrices(32, 64, 16, 1, 4, 3);
  expectRight(withEpilogue(35, 68, 40, "f16", "f16"), whole);
  expectRight(withRope(35, 5, 24, 40, "f16"), whole);
  expectRight(gated(35, 68, 36, "f16"), whole);
  expectRight(withEpilogue(35, 66, 40, "f16", "f16"), slices);
  expectRight(gated(35, 68, 36, "f16"), slices);
}
