// The table of element types on the device of a target, what a cache of each type holds, and how
// numbers are rounded.
#include "../../compiler/ElementCases.h"
#include "MethodFixture.h"

#include <bit>
#include <cmath>
#include <cstring>

using namespace kernelforge;

namespace {

using DeviceKernels = MethodTest;

class DeviceElementTypes : public DeviceKernels, public testing::WithParamInterface<ElementCase> {};

std::string replaced(std::string text, std::string_view word, std::string_view with) {
  for (size_t at; (at = text.find(word)) != std::string::npos;)
    text.replace(at, word.size(), with);
  return text;
}

/// Of the rows that a test of a target's narrow types is about: f32 has tests of its own, and so
/// have weights. Layouts are no GPU's.
std::vector<ElementCase> narrowCases() {
  std::vector<ElementCase> cases;
  for (const ElementCase &test : elementCases)
    if (std::string_view(test.operand) != "weights" && std::string_view(test.op) != "pack")
      cases.push_back(test);
  return cases;
}

} // namespace

TEST_P(DeviceElementTypes, AreRight) {
  for (const char *type : {"f16", "bf16"})
    expectRightOrRefused(GetParam(), type, options, /*isRefused=*/false);
}

INSTANTIATE_TEST_SUITE_P(All, DeviceElementTypes, testing::ValuesIn(narrowCases()),
                         [](const auto &info) { return std::string(info.param.name); });

namespace {

class DeviceNumerics : public DeviceKernels, public testing::WithParamInterface<ElementCase> {};

/// Cases that are computed in different ways. What follows a product is the same in all numerics.
std::vector<ElementCase> multiplyingCases() {
  const std::set<std::string> names{
      "matmul_input",         "matmul_input_of_many_rows", "matmul_weight",  "prologue_weight",
      "matmul_second_weight", "matmul_weight_of_one_row",  "attention_query"};
  std::vector<ElementCase> cases;
  std::ranges::copy_if(elementCases, std::back_inserter(cases),
                       [&](const ElementCase &test) { return names.contains(test.name); });
  return cases;
}

} // namespace

TEST_P(DeviceNumerics, AreRightOrRefusedByName) {
  for (const char *type : {"f32", "q8_0", "q4_k"})
    if (std::ranges::count(typesOf(GetParam()), type) != 0)
      for (Numerics numerics : numericsOf(GetParam(), type))
        expectRightOrRefusedIn(GetParam(), type, numerics, options);
}

INSTANTIATE_TEST_SUITE_P(All, DeviceNumerics, testing::ValuesIn(multiplyingCases()),
                         [](const auto &info) { return std::string(info.param.name); });

namespace {

/// Appends to two caches, one of what a matmul gives, and attends to two others with them. TYPE is
/// their element type, PAGE how they are paged, TABLE the type of their table.
const char *const cacheText = R"mlir(
func.func @f(%x: tensor<5x96xf16>, %q: tensor<5x256xf32>, %w: tensor<64x96xf32> {transformer.weight = "w"},
    %sinks: tensor<4xf32>, %to: !transformer.cache<3, 32, TYPEPAGE>,
    %multiplied: !transformer.cache<2, 32, TYPEPAGE>, %k: !transformer.cache<2, 64, TYPEPAGE>,
    %v: !transformer.cache<2, 96, TYPEPAGE>, %slots: tensor<5xi32>, %p: tensor<5xi32>,
    %s: tensor<5xi32>, %t: TABLE, %l: tensor<2xi32>) -> tensor<5x384xbf16> {
  %a = transformer.activation %x <silu> : tensor<5x96xf16>
  transformer.cache_append %a, %slots into %to
      : !transformer.cache<3, 32, TYPEPAGE>, tensor<5x96xf16>, tensor<5xi32>
  %m = transformer.matmul %x weights(%w) : (tensor<5x96xf16>, tensor<64x96xf32>) -> tensor<5x64xf32>
  transformer.cache_append %m, %slots into %multiplied
      : !transformer.cache<2, 32, TYPEPAGE>, tensor<5x64xf32>, tensor<5xi32>
  %y = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
      sinks(%sinks) {heads = 4, scale = 0.125, softcap = 9.0, window = 11}
      : (tensor<5x256xf32>, !transformer.cache<2, 64, TYPEPAGE>, !transformer.cache<2, 96, TYPEPAGE>,
      tensor<5xi32>, tensor<5xi32>, TABLE, tensor<2xi32>, tensor<4xf32>) -> tensor<5x384xbf16>
  return %y : tensor<5x384xbf16>
})mlir";

class DeviceCaches : public DeviceKernels, public testing::WithParamInterface<std::string> {};

} // namespace

TEST_P(DeviceCaches, AreWrittenAndReadRight) {
  for (bool isPaged : {false, true}) {
    const std::string text = replaced(
        replaced(replaced(cacheText, "TYPE", GetParam()), "PAGE", isPaged ? ", page = 4" : ""),
        "TABLE", isPaged ? "tensor<2x8xi32>" : "tensor<2xi32>");
    auto outcome = runFunction(text, options);
    ASSERT_TRUE(outcome) << outcome.error().line();
    EXPECT_TRUE(outcome->isRight()) << outcome->why() << text;
    EXPECT_EQ(outcome->outputs.size(), 3U);
  }
}

INSTANTIATE_TEST_SUITE_P(All, DeviceCaches,
                         testing::Values("f32", "f16", "bf16", "!transformer.quant<q8_0>"),
                         [](const auto &info) {
                           std::string name;
                           for (char c : info.param)
                             name += llvm::isAlnum(c) ? std::string(1, c) : "";
                           return name;
                         });

namespace {

/// Norms over few heads, over more than a workgroup has threads, and before a matmul.
const char *const normText = R"mlir(
func.func @f(%x: tensor<5x210xTYPE>, %few: tensor<42xf32>, %bias: tensor<42xTYPE>, %many: tensor<3xf16>,
    %w: tensor<33x210xf32> {transformer.weight = "w"})
    -> (tensor<5x210xTYPE>, tensor<5x210xTYPE>, tensor<5x33xTYPE>) {
  %a = transformer.layer_norm %x, %few, %bias {epsilon = 1.0e-5, heads = 5, offset = 0.5}
      : (tensor<5x210xTYPE>, tensor<42xf32>, tensor<42xTYPE>) -> tensor<5x210xTYPE>
  %b = transformer.rms_norm %x, %many {epsilon = 1.0e-5, heads = 70, offset = 1.0}
      : (tensor<5x210xTYPE>, tensor<3xf16>) -> tensor<5x210xTYPE>
  %c = transformer.rms_norm %x, %few {epsilon = 1.0e-5, heads = 5}
      : (tensor<5x210xTYPE>, tensor<42xf32>) -> tensor<5x210xTYPE>
  %m = transformer.matmul %c weights(%w)
      : (tensor<5x210xTYPE>, tensor<33x210xf32>) -> tensor<5x33xTYPE>
  return %a, %b, %m : tensor<5x210xTYPE>, tensor<5x210xTYPE>, tensor<5x33xTYPE>
})mlir";

class DeviceNorms : public DeviceKernels {};

} // namespace

TEST_F(DeviceNorms, AreThoseOfEachHead) {
  for (const char *type : {"f32", "f16"}) {
    auto outcome = runFunction(replaced(normText, "TYPE", type), options);
    ASSERT_TRUE(outcome) << outcome.error().line();
    EXPECT_TRUE(outcome->isRight()) << type << ": " << outcome->why();
  }
}

TEST_F(DeviceKernels, MayHaveNothingToCompute) {
  auto outcome = runFunction(R"mlir(
func.func @f(%x: tensor<7x96xf32>, %w: tensor<0x96xf16> {transformer.weight = "w"}) -> tensor<7x0xf32> {
  %y = transformer.matmul %x weights(%w) : (tensor<7x96xf32>, tensor<0x96xf16>) -> tensor<7x0xf32>
  return %y : tensor<7x0xf32>
})mlir",
                             options);
  EXPECT_TRUE(outcome) << outcome.error().line();
}

namespace {

/// What lies at, below and above the middle of two neighbours in f16 and in bf16, of all normal
/// exponents and both signs, in rows of 64.
std::vector<float> middles() {
  std::vector<float> values;
  for (uint32_t exponent = 1; exponent < 256; ++exponent)
    for (uint32_t middle : {0x1000U, 0x3000U, 0x8000U, 0x18000U, 0x7fffffU, 0U})
      for (uint32_t around : {middle - 1, middle, middle + 1})
        for (uint32_t sign : {0U, 1U})
          values.push_back(std::bit_cast<float>(sign << 31 | exponent << 23 | (around & 0x7fffff)));
  values.resize((values.size() + 63) / 64 * 64, 1.0F);
  return values;
}

class DeviceRounding : public DeviceKernels {
protected:
  /// The bits of `values` cast to a type.
  Expected<std::vector<uint16_t>> cast(const std::vector<float> &values, const char *type) {
    const std::string text = fmt::format(
        "func.func @f(%x: tensor<{0}x64xf32>) -> tensor<{0}x64x{1}> {{\n  %y = transformer.cast %x "
        ": tensor<{0}x64xf32> to tensor<{0}x64x{1}>\n  return %y : tensor<{0}x64x{1}>\n}}",
        values.size() / 64, type);
    KF_TRY(std::unique_ptr<Session> session, Session::create(options));
    auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &session->context());
    KF_TRY(mlir::func::FuncOp function, findFunction(*module, ""));
    KF_TRY(FunctionSignature signature, readSignature(function));
    KF_TRY(FunctionData data, randomData(signature, {}, 1));
    std::memcpy(data.arguments[0].memory.data(), values.data(), values.size() * sizeof(float));
    KF_CHECK(session->compile(std::move(module)));
    KF_TRY(FunctionRun run, FunctionRun::create(*session, signature, data));
    KF_CHECK(run.run());
    std::vector<uint16_t> bits(values.size());
    std::memcpy(bits.data(), data.results[0].memory.data(), bits.size() * sizeof(uint16_t));
    return bits;
  }
};

} // namespace

TEST_F(DeviceRounding, IsToTheNearestAndOfTwoToTheEvenOne) {
  const std::vector<float> values = middles();
  for (ElementType type : {ElementType::F16, ElementType::BF16}) {
    const bool isF16 = type == ElementType::F16;
    auto bits = cast(values, isF16 ? "f16" : "bf16");
    ASSERT_TRUE(bits) << bits.error().line();
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(values[i])) {
        EXPECT_TRUE(std::isnan(isF16 ? halfToFloat((*bits)[i]) : bfloat16ToFloat((*bits)[i])));
        continue;
      }
      const uint16_t expected = isF16 ? floatToHalf(values[i]) : floatToBfloat16(values[i]);
      ASSERT_EQ((*bits)[i], expected) << info(type).name << " of " << values[i];
    }
  }
}
