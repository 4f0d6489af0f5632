// Each operand of each operation with each element type that the dialect lets it have: computed
// right, or refused before code is emitted, naming the operation and the operand.
#include "RunFunction.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::AllOf;
using testing::HasSubstr;

namespace {

const std::vector<std::string> plain{"f32", "f16", "bf16"};
const std::vector<std::string> quantized{"q4_0", "q4_1", "q5_0", "q8_0", "q4_k", "q6_k"};

enum class Computed { F32, Plain, All };

/// One operand of one operation. TYPE in the text is its element type.
struct OperandCase {
  const char *name;    ///< of the test
  const char *op;      ///< as in refusals
  const char *operand; ///< as in its definition, or result
  bool isWeight;       ///< the dialect knows it quantized, too
  Computed computed;
  const char *arguments;
  const char *body; ///< ends with the value %y
  const char *result;
};

void PrintTo(const OperandCase &test, std::ostream *out) { *out << test.name; }

const OperandCase cases[] = {
    // The matmul family.
    {"matmul_input", "matmul", "input", false, Computed::F32,
     "%x: tensor<5x256xTYPE>, %w: tensor<7x256xf32> {transformer.weight = \"w\"}",
     "%y = transformer.matmul %x weights(%w) : (tensor<5x256xTYPE>, tensor<7x256xf32>) -> "
     "tensor<5x7xf32>",
     "tensor<5x7xf32>"},
    {"matmul_result", "matmul", "result", false, Computed::F32,
     "%x: tensor<5x256xf32>, %w: tensor<7x256xf32> {transformer.weight = \"w\"}",
     "%y = transformer.matmul %x weights(%w) : (tensor<5x256xf32>, tensor<7x256xf32>) -> "
     "tensor<5x7xTYPE>",
     "tensor<5x7xTYPE>"},
    {"matmul_weight", "matmul", "weights", true, Computed::All,
     "%x: tensor<5x256xf32>, %w: tensor<7x256xTYPE> {transformer.weight = \"w\"}",
     "%y = transformer.matmul %x weights(%w) : (tensor<5x256xf32>, tensor<7x256xTYPE>) -> "
     "tensor<5x7xf32>",
     "tensor<5x7xf32>"},
    {"matmul_transposed_weight", "matmul", "weights", false, Computed::All,
     "%x: tensor<5x256xf32>, %w: tensor<256x7xTYPE> {transformer.weight = \"w\"}",
     "%y = transformer.matmul %x weights(%w) {transpose} : (tensor<5x256xf32>, "
     "tensor<256x7xTYPE>) -> tensor<5x7xf32>",
     "tensor<5x7xf32>"},
    {"matmul_second_weight", "matmul", "weights", true, Computed::All,
     "%x: tensor<5x256xf32>, %w: tensor<7x256xf32> {transformer.weight = \"w\"}, "
     "%v: tensor<7x256xTYPE> {transformer.weight = \"v\"}",
     "%p:2 = transformer.matmul %x weights(%w, %v) : (tensor<5x256xf32>, tensor<7x256xf32>, "
     "tensor<7x256xTYPE>) -> (tensor<5x7xf32>, tensor<5x7xf32>)\n"
     "%y = transformer.mul %p#0, %p#1 : tensor<5x7xf32>",
     "tensor<5x7xf32>"},
    {"matmul_bias", "matmul", "biases", false, Computed::F32,
     "%x: tensor<5x256xf32>, %w: tensor<7x256xf32> {transformer.weight = \"w\"}, "
     "%b: tensor<7xTYPE>",
     "%y = transformer.matmul %x weights(%w) bias(%b) : (tensor<5x256xf32>, tensor<7x256xf32>, "
     "tensor<7xTYPE>) -> tensor<5x7xf32>",
     "tensor<5x7xf32>"},
    {"prologue_weight", "rms_norm", "weight", false, Computed::Plain,
     "%x: tensor<5x256xf32>, %n: tensor<256xTYPE>, "
     "%w: tensor<7x256xf32> {transformer.weight = \"w\"}",
     "%z = transformer.rms_norm %x, %n {epsilon = 1.0e-5} : (tensor<5x256xf32>, tensor<256xTYPE>) "
     "-> tensor<5x256xf32>\n"
     "%y = transformer.matmul %z weights(%w) : (tensor<5x256xf32>, tensor<7x256xf32>) -> "
     "tensor<5x7xf32>",
     "tensor<5x7xf32>"},
    {"epilogue_cache", "cache_append", "cache", false, Computed::F32,
     "%x: tensor<5x256xf32>, %w: tensor<8x256xf32> {transformer.weight = \"w\"}, "
     "%s: tensor<5xi32>, %c: !transformer.cache<2, 4, TYPE>",
     "%y = transformer.matmul %x weights(%w) : (tensor<5x256xf32>, tensor<8x256xf32>) -> "
     "tensor<5x8xf32>\n"
     "transformer.cache_append %y, %s into %c : !transformer.cache<2, 4, TYPE>, tensor<5x8xf32>, "
     "tensor<5xi32>",
     "tensor<5x8xf32>"},
    {"mlp_input", "matmul", "input", false, Computed::F32,
     "%x: tensor<5x256xTYPE>, %u: tensor<9x256xf32> {transformer.weight = \"u\"}, "
     "%d: tensor<256x9xf32> {transformer.weight = \"d\"}",
     "%y = transformer.mlp %x up(%u) down(%d) <relu> : (tensor<5x256xTYPE>, tensor<9x256xf32>, "
     "tensor<256x9xf32>) -> tensor<5x256xTYPE>",
     "tensor<5x256xTYPE>"},
    {"mlp_weight", "matmul", "weights", true, Computed::All,
     "%x: tensor<5x256xf32>, %g: tensor<9x256xTYPE> {transformer.weight = \"g\"}, "
     "%u: tensor<9x256xTYPE> {transformer.weight = \"u\"}, "
     "%d: tensor<256x9xf32> {transformer.weight = \"d\"}",
     "%y = transformer.mlp %x gate(%g) up(%u) down(%d) <silu> : (tensor<5x256xf32>, "
     "tensor<9x256xTYPE>, tensor<9x256xTYPE>, tensor<256x9xf32>) -> tensor<5x256xf32>",
     "tensor<5x256xf32>"},
    // The attention family.
    {"attention_query", "attention", "query", false, Computed::F32,
     "%q: tensor<5x16xTYPE>, %k: !transformer.cache<2, 4, f32>, %v: !transformer.cache<2, 4, f32>, "
     "%p: tensor<5xi32>, %s: tensor<5xi32>, %t: tensor<1xi32>, %l: tensor<1xi32>",
     "%y = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l) "
     "{heads = 4, scale = 0.5} : (tensor<5x16xTYPE>, !transformer.cache<2, 4, f32>, "
     "!transformer.cache<2, 4, f32>, tensor<5xi32>, tensor<5xi32>, tensor<1xi32>, tensor<1xi32>) "
     "-> tensor<5x16xf32>",
     "tensor<5x16xf32>"},
    {"attention_keys", "attention", "keys", false, Computed::F32,
     "%q: tensor<5x16xf32>, %k: !transformer.cache<2, 4, TYPE>, %v: !transformer.cache<2, 4, f32>, "
     "%p: tensor<5xi32>, %s: tensor<5xi32>, %t: tensor<1xi32>, %l: tensor<1xi32>",
     "%y = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l) "
     "{heads = 4, scale = 0.5} : (tensor<5x16xf32>, !transformer.cache<2, 4, TYPE>, "
     "!transformer.cache<2, 4, f32>, tensor<5xi32>, tensor<5xi32>, tensor<1xi32>, tensor<1xi32>) "
     "-> tensor<5x16xf32>",
     "tensor<5x16xf32>"},
    {"attention_values", "attention", "values", false, Computed::F32,
     "%q: tensor<5x16xf32>, %k: !transformer.cache<2, 4, f32>, %v: !transformer.cache<2, 4, TYPE>, "
     "%p: tensor<5xi32>, %s: tensor<5xi32>, %t: tensor<1xi32>, %l: tensor<1xi32>",
     "%y = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l) "
     "{heads = 4, scale = 0.5} : (tensor<5x16xf32>, !transformer.cache<2, 4, f32>, "
     "!transformer.cache<2, 4, TYPE>, tensor<5xi32>, tensor<5xi32>, tensor<1xi32>, tensor<1xi32>) "
     "-> tensor<5x16xf32>",
     "tensor<5x16xf32>"},
    {"attention_result", "attention", "result", false, Computed::F32,
     "%q: tensor<5x16xf32>, %k: !transformer.cache<2, 4, f32>, %v: !transformer.cache<2, 4, f32>, "
     "%p: tensor<5xi32>, %s: tensor<5xi32>, %t: tensor<1xi32>, %l: tensor<1xi32>",
     "%y = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l) "
     "{heads = 4, scale = 0.5} : (tensor<5x16xf32>, !transformer.cache<2, 4, f32>, "
     "!transformer.cache<2, 4, f32>, tensor<5xi32>, tensor<5xi32>, tensor<1xi32>, tensor<1xi32>) "
     "-> tensor<5x16xTYPE>",
     "tensor<5x16xTYPE>"},
    // The rowwise family.
    {"embedding_table", "embedding", "table", true, Computed::All,
     "%i: tensor<5xi32>, %t: tensor<9x256xTYPE>",
     "%y = transformer.embedding %i, %t : (tensor<5xi32>, tensor<9x256xTYPE>) -> tensor<5x256xf32>",
     "tensor<5x256xf32>"},
    {"embedding_result", "embedding", "result", false, Computed::F32,
     "%i: tensor<5xi32>, %t: tensor<9x256xf32>",
     "%y = transformer.embedding %i, %t : (tensor<5xi32>, tensor<9x256xf32>) -> "
     "tensor<5x256xTYPE>",
     "tensor<5x256xTYPE>"},
    {"gather_input", "gather_rows", "input", false, Computed::F32,
     "%x: tensor<5x9xTYPE>, %i: tensor<3xi32>",
     "%y = transformer.gather_rows %x, %i : (tensor<5x9xTYPE>, tensor<3xi32>) -> tensor<3x9xf32>",
     "tensor<3x9xf32>"},
    {"gather_result", "gather_rows", "result", false, Computed::F32,
     "%x: tensor<5x9xf32>, %i: tensor<3xi32>",
     "%y = transformer.gather_rows %x, %i : (tensor<5x9xf32>, tensor<3xi32>) -> tensor<3x9xTYPE>",
     "tensor<3x9xTYPE>"},
    {"rms_norm_input", "rms_norm", "input", false, Computed::F32,
     "%x: tensor<5x9xTYPE>, %n: tensor<9xf32>",
     "%y = transformer.rms_norm %x, %n {epsilon = 1.0e-5} : (tensor<5x9xTYPE>, tensor<9xf32>) -> "
     "tensor<5x9xTYPE>",
     "tensor<5x9xTYPE>"},
    {"rms_norm_weight", "rms_norm", "weight", false, Computed::Plain,
     "%x: tensor<5x9xf32>, %n: tensor<9xTYPE>",
     "%y = transformer.rms_norm %x, %n {epsilon = 1.0e-5} : (tensor<5x9xf32>, tensor<9xTYPE>) -> "
     "tensor<5x9xf32>",
     "tensor<5x9xf32>"},
    {"layer_norm_input", "layer_norm", "input", false, Computed::F32,
     "%x: tensor<5x9xTYPE>, %n: tensor<9xf32>",
     "%y = transformer.layer_norm %x, %n {epsilon = 1.0e-5} : (tensor<5x9xTYPE>, tensor<9xf32>) -> "
     "tensor<5x9xTYPE>",
     "tensor<5x9xTYPE>"},
    {"layer_norm_weight", "layer_norm", "weight", false, Computed::Plain,
     "%x: tensor<5x9xf32>, %n: tensor<9xTYPE>",
     "%y = transformer.layer_norm %x, %n {epsilon = 1.0e-5} : (tensor<5x9xf32>, tensor<9xTYPE>) -> "
     "tensor<5x9xf32>",
     "tensor<5x9xf32>"},
    {"layer_norm_bias", "layer_norm", "bias", false, Computed::Plain,
     "%x: tensor<5x9xf32>, %n: tensor<9xf32>, %b: tensor<9xTYPE>",
     "%y = transformer.layer_norm %x, %n, %b {epsilon = 1.0e-5} : (tensor<5x9xf32>, "
     "tensor<9xf32>, tensor<9xTYPE>) -> tensor<5x9xf32>",
     "tensor<5x9xf32>"},
    {"rope_input", "rope", "input", false, Computed::F32,
     "%x: tensor<5x8xTYPE>, %p: tensor<5xi32>, %t: tensor<6x4xf32>",
     "%y = transformer.rope %x, %p, %t <half_split> {headDim = 4} : (tensor<5x8xTYPE>, "
     "tensor<5xi32>, tensor<6x4xf32>) -> tensor<5x8xTYPE>",
     "tensor<5x8xTYPE>"},
    {"rope_table", "rope", "table", false, Computed::F32,
     "%x: tensor<5x8xf32>, %p: tensor<5xi32>, %t: tensor<6x4xTYPE>",
     "%y = transformer.rope %x, %p, %t <half_split> {headDim = 4} : (tensor<5x8xf32>, "
     "tensor<5xi32>, tensor<6x4xTYPE>) -> tensor<5x8xf32>",
     "tensor<5x8xf32>"},
    {"softmax_input", "softmax", "input", false, Computed::F32, "%x: tensor<5x9xTYPE>",
     "%y = transformer.softmax %x : tensor<5x9xTYPE>", "tensor<5x9xTYPE>"},
    {"activation_input", "activation", "input", false, Computed::F32, "%x: tensor<5x9xTYPE>",
     "%y = transformer.activation %x <gelu> : tensor<5x9xTYPE>", "tensor<5x9xTYPE>"},
    {"add_input", "add", "lhs", false, Computed::F32, "%x: tensor<5x9xTYPE>",
     "%y = transformer.add %x, %x : tensor<5x9xTYPE>", "tensor<5x9xTYPE>"},
    {"mul_input", "mul", "lhs", false, Computed::F32, "%x: tensor<5x9xTYPE>",
     "%y = transformer.mul %x, %x : tensor<5x9xTYPE>", "tensor<5x9xTYPE>"},
    {"scale_input", "scale", "input", false, Computed::F32, "%x: tensor<5x9xTYPE>",
     "%y = transformer.scale %x {factor = 2.0} : tensor<5x9xTYPE>", "tensor<5x9xTYPE>"},
    {"append_values", "cache_append", "values", false, Computed::F32,
     "%x: tensor<5x8xTYPE>, %s: tensor<5xi32>, %c: !transformer.cache<2, 4, f32>, "
     "%z: tensor<5x8xf32>",
     "transformer.cache_append %x, %s into %c : !transformer.cache<2, 4, f32>, tensor<5x8xTYPE>, "
     "tensor<5xi32>\n"
     "%y = transformer.add %z, %z : tensor<5x8xf32>",
     "tensor<5x8xf32>"},
    {"append_cache", "cache_append", "cache", false, Computed::F32,
     "%x: tensor<5x8xf32>, %s: tensor<5xi32>, %c: !transformer.cache<2, 4, TYPE>",
     "transformer.cache_append %x, %s into %c : !transformer.cache<2, 4, TYPE>, tensor<5x8xf32>, "
     "tensor<5xi32>\n"
     "%y = transformer.add %x, %x : tensor<5x8xf32>",
     "tensor<5x8xf32>"},
    {"pack_input", "pack", "input", true, Computed::All,
     "%i: tensor<5xi32>, %t: tensor<9x256xTYPE>",
     "%p = transformer.pack %t : tensor<9x256xTYPE> to "
     "tensor<9x256xTYPE, #transformer.layout<interleaved, rows = 16>>\n"
     "%y = transformer.embedding %i, %p : (tensor<5xi32>, "
     "tensor<9x256xTYPE, #transformer.layout<interleaved, rows = 16>>) -> tensor<5x256xf32>",
     "tensor<5x256xf32>"},
};

std::string textOf(const OperandCase &test, const std::string &type) {
  std::string text = fmt::format("func.func @f({}) -> {} {{\n{}\nreturn %y : {}\n}}",
                                 test.arguments, test.result, test.body, test.result);
  const bool isQuantized = std::ranges::count(quantized, type) != 0;
  const std::string element = isQuantized ? "!transformer.quant<" + type + ">" : type;
  for (size_t at; (at = text.find("TYPE")) != std::string::npos;)
    text.replace(at, 4, element);
  return text;
}

/// "operand 'weights'", or "result".
std::string nameOf(const OperandCase &test) {
  const std::string name = test.operand;
  return name == "result" ? name : "operand '" + name + "'";
}

bool isComputed(Computed computed, const std::string &type) {
  return type == "f32" || computed == Computed::All ||
         (computed == Computed::Plain && (type == "f16" || type == "bf16"));
}

class ElementTypes : public testing::TestWithParam<OperandCase> {};

} // namespace

TEST_P(ElementTypes, AreComputedRightOrRefusedByName) {
  const OperandCase &test = GetParam();
  std::vector<std::string> types = plain;
  if (test.isWeight)
    types.insert(types.end(), quantized.begin(), quantized.end());
  for (const std::string &type : types)
    for (bool fuse : {true, false}) {
      SCOPED_TRACE(type + (fuse ? "" : ", not fused"));
      auto outcome = runFunction(textOf(test, type), fuse);
      if (isComputed(test.computed, type)) {
        ASSERT_TRUE(outcome) << outcome.error().line();
        EXPECT_TRUE(outcome->isRight());
        continue;
      }
      ASSERT_FALSE(outcome);
      EXPECT_EQ(outcome.error().kind, ErrorKind::Unusable);
      EXPECT_THAT(outcome.error().line(),
                  AllOf(HasSubstr(std::string("transformer.") + test.op),
                        HasSubstr(fmt::format("its {} holds {}", nameOf(test), type))));
    }
}
INSTANTIATE_TEST_SUITE_P(All, ElementTypes, testing::ValuesIn(cases),
                         [](const auto &info) { return std::string(info.param.name); });

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
