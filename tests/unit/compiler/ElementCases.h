// Each operand and result of each operation, with each element type that the dialect lets it have,
// as functions that any target may be asked to run: it computes them right, or refuses them naming
// the operation and the operand. A test of a target says which ones it refuses.
#pragma once

#include "../support/WeightTypes.h"
#include "RunFunction.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace kernelforge {

inline const std::vector<std::string> plainTypes{"f32", "f16", "bf16"};
inline const std::vector<std::string> quantizedTypes = quantizedTypeNames();

/// One operand of one operation, or its result. In the text TYPE is its element type and DEPTH a
/// width that is no multiple of anything, or where the type is quantized one of whole blocks.
struct ElementCase {
  const char *name;    ///< of the test
  const char *op;      ///< as in refusals
  const char *operand; ///< as in its definition, or result
  bool isWeight;       ///< the dialect knows it quantized, too
  const char *arguments;
  const char *body; ///< ends with the value %y
  const char *result;
};

inline void PrintTo(const ElementCase &test, std::ostream *out) { *out << test.name; }

#define KF_WEIGHT " {transformer.weight = \"w\"}"
#define KF_ATTENTION(QUERY, KEYS, VALUES, SINKS, RESULT)                                           \
  "%q: tensor<5x48x" QUERY ">, %k: !transformer.cache<2, 12, " KEYS ">, "                          \
  "%v: !transformer.cache<2, 12, " VALUES ">, %p: tensor<5xi32>, %s: tensor<5xi32>, "              \
  "%t: tensor<1xi32>, %l: tensor<1xi32>, %n: tensor<4x" SINKS ">",                                 \
      "%y = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l) "   \
      "sinks(%n) {heads = 4, scale = 0.5} : (tensor<5x48x" QUERY ">, !transformer.cache<2, 12, "   \
      "" KEYS ">, !transformer.cache<2, 12, " VALUES ">, tensor<5xi32>, tensor<5xi32>, "           \
      "tensor<1xi32>, tensor<1xi32>, tensor<4x" SINKS ">) -> tensor<5x48x" RESULT ">",             \
      "tensor<5x48x" RESULT ">"

inline const std::vector<ElementCase> elementCases = {
    // The matmul family.
    {"matmul_input", "matmul", "input", false,
     "%x: tensor<5xDEPTHxTYPE>, %w: tensor<37xDEPTHxf32>" KF_WEIGHT,
     "%y = transformer.matmul %x weights(%w) : (tensor<5xDEPTHxTYPE>, tensor<37xDEPTHxf32>) -> "
     "tensor<5x37xf32>",
     "tensor<5x37xf32>"},
    {"matmul_input_of_one_row", "matmul", "input", false,
     "%x: tensor<1x96xTYPE>, %w: tensor<70x96xf32>" KF_WEIGHT,
     "%y = transformer.matmul %x weights(%w) : (tensor<1x96xTYPE>, tensor<70x96xf32>) -> "
     "tensor<1x70xf32>",
     "tensor<1x70xf32>"},
    {"matmul_input_of_many_rows", "matmul", "input", false,
     "%x: tensor<67x96xTYPE>, %w: tensor<37x96xf32>" KF_WEIGHT,
     "%y = transformer.matmul %x weights(%w) : (tensor<67x96xTYPE>, tensor<37x96xf32>) -> "
     "tensor<67x37xf32>",
     "tensor<67x37xf32>"},
    {"matmul_result", "matmul", "result", false,
     "%x: tensor<5x96xf32>, %w: tensor<37x96xf32>" KF_WEIGHT,
     "%y = transformer.matmul %x weights(%w) : (tensor<5x96xf32>, tensor<37x96xf32>) -> "
     "tensor<5x37xTYPE>",
     "tensor<5x37xTYPE>"},
    {"matmul_weight", "matmul", "weights", true,
     "%x: tensor<5xDEPTHxf32>, %w: tensor<37xDEPTHxTYPE>" KF_WEIGHT,
     "%y = transformer.matmul %x weights(%w) : (tensor<5xDEPTHxf32>, tensor<37xDEPTHxTYPE>) -> "
     "tensor<5x37xf32>",
     "tensor<5x37xf32>"},
    {"matmul_weight_of_one_row", "matmul", "weights", true,
     "%x: tensor<1xDEPTHxf32>, %w: tensor<70xDEPTHxTYPE>" KF_WEIGHT,
     "%y = transformer.matmul %x weights(%w) : (tensor<1xDEPTHxf32>, tensor<70xDEPTHxTYPE>) -> "
     "tensor<1x70xf32>",
     "tensor<1x70xf32>"},
    {"matmul_transposed_weight", "matmul", "weights", false,
     "%x: tensor<5xDEPTHxf32>, %w: tensor<DEPTHx37xTYPE>" KF_WEIGHT,
     "%y = transformer.matmul %x weights(%w) {transpose} : (tensor<5xDEPTHxf32>, "
     "tensor<DEPTHx37xTYPE>) -> tensor<5x37xf32>",
     "tensor<5x37xf32>"},
    {"matmul_second_weight", "matmul", "weights", true,
     "%x: tensor<5xDEPTHxf32>, %w: tensor<37xDEPTHxf32>" KF_WEIGHT
     ", %v: tensor<37xDEPTHxTYPE> {transformer.weight = \"v\"}",
     "%p:2 = transformer.matmul %x weights(%w, %v) : (tensor<5xDEPTHxf32>, tensor<37xDEPTHxf32>, "
     "tensor<37xDEPTHxTYPE>) -> (tensor<5x37xf32>, tensor<5x37xf32>)\n"
     "%y = transformer.mul %p#0, %p#1 : tensor<5x37xf32>",
     "tensor<5x37xf32>"},
    {"matmul_second_result", "matmul", "result", false,
     "%x: tensor<5x96xf32>, %w: tensor<37x96xf32>" KF_WEIGHT
     ", %v: tensor<37x96xf32> {transformer.weight = \"v\"}",
     "%p:2 = transformer.matmul %x weights(%w, %v) : (tensor<5x96xf32>, tensor<37x96xf32>, "
     "tensor<37x96xf32>) -> (tensor<5x37xf32>, tensor<5x37xTYPE>)\n"
     "%a = transformer.activation %p#0 <silu> : tensor<5x37xf32>\n"
     "%b = transformer.cast %a : tensor<5x37xf32> to tensor<5x37xTYPE>\n"
     "%y = transformer.mul %b, %p#1 : tensor<5x37xTYPE>",
     "tensor<5x37xTYPE>"},
    {"matmul_bias", "matmul", "biases", false,
     "%x: tensor<5x96xf32>, %w: tensor<37x96xf32>" KF_WEIGHT ", %b: tensor<37xTYPE>",
     "%y = transformer.matmul %x weights(%w) bias(%b) : (tensor<5x96xf32>, tensor<37x96xf32>, "
     "tensor<37xTYPE>) -> tensor<5x37xf32>",
     "tensor<5x37xf32>"},
    {"matmul_all", "rms_norm", "input", false,
     "%x: tensor<5x96xTYPE>, %n: tensor<96xTYPE>, %w: tensor<96x96xTYPE>" KF_WEIGHT
     ", %b: tensor<96xTYPE>",
     "%z = transformer.rms_norm %x, %n {epsilon = 1.0e-5} : (tensor<5x96xTYPE>, tensor<96xTYPE>) "
     "-> tensor<5x96xTYPE>\n"
     "%m = transformer.matmul %z weights(%w) bias(%b) : (tensor<5x96xTYPE>, tensor<96x96xTYPE>, "
     "tensor<96xTYPE>) -> tensor<5x96xTYPE>\n"
     "%y = transformer.add %m, %x : tensor<5x96xTYPE>",
     "tensor<5x96xTYPE>"},
    {"matmul_all_transposed", "matmul", "input", false,
     "%x: tensor<5x96xTYPE>, %w: tensor<96x37xTYPE>" KF_WEIGHT ", %b: tensor<37xTYPE>",
     "%m = transformer.matmul %x weights(%w) bias(%b) {transpose} : (tensor<5x96xTYPE>, "
     "tensor<96x37xTYPE>, tensor<37xTYPE>) -> tensor<5x37xTYPE>\n"
     "%y = transformer.activation %m <gelu> : tensor<5x37xTYPE>",
     "tensor<5x37xTYPE>"},
    {"prologue_weight", "rms_norm", "weight", false,
     "%x: tensor<5x37xf32>, %n: tensor<37xTYPE>, %w: tensor<37x37xf32>" KF_WEIGHT,
     "%z = transformer.rms_norm %x, %n {epsilon = 1.0e-5} : (tensor<5x37xf32>, tensor<37xTYPE>) "
     "-> tensor<5x37xf32>\n"
     "%y = transformer.matmul %z weights(%w) : (tensor<5x37xf32>, tensor<37x37xf32>) -> "
     "tensor<5x37xf32>",
     "tensor<5x37xf32>"},
    {"prologue_gather", "gather_rows", "input", false,
     "%x: tensor<5x37xTYPE>, %i: tensor<3xi32>, %w: tensor<37x37xf32>" KF_WEIGHT,
     "%z = transformer.gather_rows %x, %i : (tensor<5x37xTYPE>, tensor<3xi32>) -> "
     "tensor<3x37xTYPE>\n"
     "%y = transformer.matmul %z weights(%w) : (tensor<3x37xTYPE>, tensor<37x37xf32>) -> "
     "tensor<3x37xf32>",
     "tensor<3x37xf32>"},
    {"epilogue_rope", "rope", "table", false,
     "%x: tensor<5x37xf32>, %w: tensor<96x37xf32>" KF_WEIGHT
     ", %p: tensor<5xi32>, %t: tensor<6x32xTYPE>",
     "%m = transformer.matmul %x weights(%w) : (tensor<5x37xf32>, tensor<96x37xf32>) -> "
     "tensor<5x96xf32>\n"
     "%y = transformer.rope %m, %p, %t <half_split> {headDim = 32} : (tensor<5x96xf32>, "
     "tensor<5xi32>, tensor<6x32xTYPE>) -> tensor<5x96xf32>",
     "tensor<5x96xf32>"},
    {"epilogue_residual", "cast", "result", false,
     "%x: tensor<5x37xf32>, %r: tensor<5x37xTYPE>, %w: tensor<37x37xf32>" KF_WEIGHT,
     "%m = transformer.matmul %x weights(%w) : (tensor<5x37xf32>, tensor<37x37xf32>) -> "
     "tensor<5x37xf32>\n"
     "%c = transformer.cast %m : tensor<5x37xf32> to tensor<5x37xTYPE>\n"
     "%y = transformer.add %c, %r : tensor<5x37xTYPE>",
     "tensor<5x37xTYPE>"},
    {"epilogue_cache", "cache_append", "cache", false,
     "%x: tensor<5x37xf32>, %w: tensor<24x37xf32>" KF_WEIGHT
     ", %s: tensor<5xi32>, %c: !transformer.cache<2, 12, TYPE>",
     "%y = transformer.matmul %x weights(%w) : (tensor<5x37xf32>, tensor<24x37xf32>) -> "
     "tensor<5x24xf32>\n"
     "transformer.cache_append %y, %s into %c : !transformer.cache<2, 12, TYPE>, "
     "tensor<5x24xf32>, tensor<5xi32>",
     "tensor<5x24xf32>"},
    {"mlp_input", "matmul", "input", false,
     "%x: tensor<5x96xTYPE>, %u: tensor<37x96xf32> {transformer.weight = \"u\"}, "
     "%d: tensor<96x37xf32> {transformer.weight = \"d\"}",
     "%y = transformer.mlp %x up(%u) down(%d) <relu> : (tensor<5x96xTYPE>, tensor<37x96xf32>, "
     "tensor<96x37xf32>) -> tensor<5x96xTYPE>",
     "tensor<5x96xTYPE>"},
    {"mlp_weight", "matmul", "weights", true,
     "%x: tensor<5xDEPTHxf32>, %g: tensor<9xDEPTHxTYPE> {transformer.weight = \"g\"}, "
     "%u: tensor<9xDEPTHxTYPE> {transformer.weight = \"u\"}, "
     "%d: tensor<DEPTHx9xf32> {transformer.weight = \"d\"}",
     "%y = transformer.mlp %x gate(%g) up(%u) down(%d) <silu> : (tensor<5xDEPTHxf32>, "
     "tensor<9xDEPTHxTYPE>, tensor<9xDEPTHxTYPE>, tensor<DEPTHx9xf32>) -> tensor<5xDEPTHxf32>",
     "tensor<5xDEPTHxf32>"},
    // The attention family.
    {"attention_query", "attention", "query", false,
     KF_ATTENTION("TYPE", "f32", "f32", "f32", "f32")},
    {"attention_keys", "attention", "keys", false,
     KF_ATTENTION("f32", "TYPE", "f32", "f32", "f32")},
    {"attention_values", "attention", "values", false,
     KF_ATTENTION("f32", "f32", "TYPE", "f32", "f32")},
    {"attention_sinks", "attention", "sinks", false,
     KF_ATTENTION("f32", "f32", "f32", "TYPE", "f32")},
    {"attention_result", "attention", "result", false,
     KF_ATTENTION("f32", "f32", "f32", "f32", "TYPE")},
    // The rowwise family.
    {"embedding_table", "embedding", "table", true, "%i: tensor<5xi32>, %t: tensor<9xDEPTHxTYPE>",
     "%y = transformer.embedding %i, %t : (tensor<5xi32>, tensor<9xDEPTHxTYPE>) -> "
     "tensor<5xDEPTHxf32>",
     "tensor<5xDEPTHxf32>"},
    {"embedding_result", "embedding", "result", false, "%i: tensor<5xi32>, %t: tensor<9x37xf32>",
     "%y = transformer.embedding %i, %t : (tensor<5xi32>, tensor<9x37xf32>) -> tensor<5x37xTYPE>",
     "tensor<5x37xTYPE>"},
    {"gather_input", "gather_rows", "input", false, "%x: tensor<5x37xTYPE>, %i: tensor<3xi32>",
     "%y = transformer.gather_rows %x, %i : (tensor<5x37xTYPE>, tensor<3xi32>) -> tensor<3x37xf32>",
     "tensor<3x37xf32>"},
    {"gather_result", "gather_rows", "result", false, "%x: tensor<5x37xf32>, %i: tensor<3xi32>",
     "%y = transformer.gather_rows %x, %i : (tensor<5x37xf32>, tensor<3xi32>) -> tensor<3x37xTYPE>",
     "tensor<3x37xTYPE>"},
    {"rms_norm_input", "rms_norm", "input", false, "%x: tensor<5x37xTYPE>, %n: tensor<37xf32>",
     "%y = transformer.rms_norm %x, %n {epsilon = 1.0e-5} : (tensor<5x37xTYPE>, tensor<37xf32>) "
     "-> tensor<5x37xTYPE>",
     "tensor<5x37xTYPE>"},
    {"rms_norm_weight", "rms_norm", "weight", false, "%x: tensor<5x37xf32>, %n: tensor<37xTYPE>",
     "%y = transformer.rms_norm %x, %n {epsilon = 1.0e-5} : (tensor<5x37xf32>, tensor<37xTYPE>) "
     "-> tensor<5x37xf32>",
     "tensor<5x37xf32>"},
    {"layer_norm_input", "layer_norm", "input", false, "%x: tensor<5x37xTYPE>, %n: tensor<37xf32>",
     "%y = transformer.layer_norm %x, %n {epsilon = 1.0e-5} : (tensor<5x37xTYPE>, "
     "tensor<37xf32>) -> tensor<5x37xTYPE>",
     "tensor<5x37xTYPE>"},
    {"layer_norm_weight", "layer_norm", "weight", false,
     "%x: tensor<5x37xf32>, %n: tensor<37xTYPE>",
     "%y = transformer.layer_norm %x, %n {epsilon = 1.0e-5} : (tensor<5x37xf32>, "
     "tensor<37xTYPE>) -> tensor<5x37xf32>",
     "tensor<5x37xf32>"},
    {"layer_norm_bias", "layer_norm", "bias", false,
     "%x: tensor<5x37xf32>, %n: tensor<37xf32>, %b: tensor<37xTYPE>",
     "%y = transformer.layer_norm %x, %n, %b {epsilon = 1.0e-5} : (tensor<5x37xf32>, "
     "tensor<37xf32>, tensor<37xTYPE>) -> tensor<5x37xf32>",
     "tensor<5x37xf32>"},
    {"rope_input", "rope", "input", false,
     "%x: tensor<5x30xTYPE>, %p: tensor<5xi32>, %t: tensor<6x4xf32>",
     "%y = transformer.rope %x, %p, %t <half_split> {headDim = 6} : (tensor<5x30xTYPE>, "
     "tensor<5xi32>, tensor<6x4xf32>) -> tensor<5x30xTYPE>",
     "tensor<5x30xTYPE>"},
    {"rope_table", "rope", "table", false,
     "%x: tensor<5x30xf32>, %p: tensor<5xi32>, %t: tensor<6x4xTYPE>",
     "%y = transformer.rope %x, %p, %t <half_split> {headDim = 6} : (tensor<5x30xf32>, "
     "tensor<5xi32>, tensor<6x4xTYPE>) -> tensor<5x30xf32>",
     "tensor<5x30xf32>"},
    {"rope_table_interleaved", "rope", "table", false,
     "%x: tensor<5x96xf32>, %p: tensor<5xi32>, %t: tensor<6x16xTYPE>",
     "%y = transformer.rope %x, %p, %t <interleaved> {headDim = 16} : (tensor<5x96xf32>, "
     "tensor<5xi32>, tensor<6x16xTYPE>) -> tensor<5x96xf32>",
     "tensor<5x96xf32>"},
    {"softmax_input", "softmax", "input", false, "%x: tensor<5x37xTYPE>",
     "%y = transformer.softmax %x : tensor<5x37xTYPE>", "tensor<5x37xTYPE>"},
    {"cast_input", "cast", "input", false, "%x: tensor<5x37xTYPE>",
     "%y = transformer.cast %x : tensor<5x37xTYPE> to tensor<5x37xf32>", "tensor<5x37xf32>"},
    {"cast_result", "cast", "result", false, "%x: tensor<5x37xf32>",
     "%y = transformer.cast %x : tensor<5x37xf32> to tensor<5x37xTYPE>", "tensor<5x37xTYPE>"},
    {"cast_between", "cast", "result", false, "%x: tensor<5x37xf32>",
     "%a = transformer.scale %x {factor = 3.0} : tensor<5x37xf32>\n"
     "%b = transformer.cast %a : tensor<5x37xf32> to tensor<5x37xTYPE>\n"
     "%c = transformer.cast %b : tensor<5x37xTYPE> to tensor<5x37xf32>\n"
     "%y = transformer.mul %c, %c : tensor<5x37xf32>",
     "tensor<5x37xf32>"},
    {"activation_input", "activation", "input", false, "%x: tensor<5x37xTYPE>",
     "%y = transformer.activation %x <gelu> : tensor<5x37xTYPE>", "tensor<5x37xTYPE>"},
    {"add_input", "add", "lhs", false, "%x: tensor<5x37xTYPE>, %a: tensor<5x37xTYPE>",
     "%y = transformer.add %x, %a : tensor<5x37xTYPE>", "tensor<5x37xTYPE>"},
    {"mul_input", "mul", "lhs", false, "%x: tensor<5x37xTYPE>, %a: tensor<5x37xTYPE>",
     "%y = transformer.mul %x, %a : tensor<5x37xTYPE>", "tensor<5x37xTYPE>"},
    {"scale_input", "scale", "input", false, "%x: tensor<5x37xTYPE>",
     "%y = transformer.scale %x {factor = 3.0} : tensor<5x37xTYPE>", "tensor<5x37xTYPE>"},
    {"append_values", "cache_append", "values", false,
     "%x: tensor<5x24xTYPE>, %s: tensor<5xi32>, %c: !transformer.cache<2, 12, f32>, "
     "%z: tensor<5x24xf32>",
     "transformer.cache_append %x, %s into %c : !transformer.cache<2, 12, f32>, "
     "tensor<5x24xTYPE>, tensor<5xi32>\n"
     "%y = transformer.add %z, %z : tensor<5x24xf32>",
     "tensor<5x24xf32>"},
    {"append_cache", "cache_append", "cache", false,
     "%x: tensor<5x24xf32>, %s: tensor<5xi32>, %c: !transformer.cache<2, 12, TYPE>",
     "transformer.cache_append %x, %s into %c : !transformer.cache<2, 12, TYPE>, "
     "tensor<5x24xf32>, tensor<5xi32>\n"
     "%y = transformer.add %x, %x : tensor<5x24xf32>",
     "tensor<5x24xf32>"},
    {"pack_input", "pack", "input", true, "%i: tensor<5xi32>, %t: tensor<9xDEPTHxTYPE>",
     "%p = transformer.pack %t : tensor<9xDEPTHxTYPE> to "
     "tensor<9xDEPTHxTYPE, #transformer.layout<interleaved, rows = 16>>\n"
     "%y = transformer.embedding %i, %p : (tensor<5xi32>, "
     "tensor<9xDEPTHxTYPE, #transformer.layout<interleaved, rows = 16>>) -> tensor<5xDEPTHxf32>",
     "tensor<5xDEPTHxf32>"},
};

#undef KF_WEIGHT
#undef KF_ATTENTION

/// Whether fused and not it is compiled differently.
inline bool isChain(const ElementCase &test) {
  const std::string_view body = test.body;
  return body.find('\n') != body.npos || body.find("transformer.mlp") != body.npos;
}

/// The element types that the dialect lets the operand have.
inline std::vector<std::string> typesOf(const ElementCase &test) {
  std::vector<std::string> types = plainTypes;
  if (test.isWeight)
    types.insert(types.end(), quantizedTypes.begin(), quantizedTypes.end());
  return types;
}

/// A module with the function @f.
inline std::string textOf(const ElementCase &test, const std::string &type) {
  std::string text = fmt::format("func.func @f({}) -> {} {{\n{}\nreturn %y : {}\n}}",
                                 test.arguments, test.result, test.body, test.result);
  const bool isQuantized = std::ranges::count(quantizedTypes, type) != 0;
  auto replace = [&](std::string_view word, const std::string &with) {
    for (size_t at; (at = text.find(word)) != std::string::npos;)
      text.replace(at, word.size(), with);
  };
  replace("TYPE", isQuantized ? "!transformer.quant<" + type + ">" : type);
  replace("DEPTH", isQuantized ? "256" : "37");
  return text;
}

/// The numerics other than f32 that operations of a case can have.
inline std::vector<Numerics> numericsOf(const ElementCase &test, const std::string &type) {
  const std::string_view body = test.body;
  const auto has = [&](std::string_view op) { return body.find(op) != body.npos; };
  std::vector<Numerics> found;
  if (!has("transformer.matmul") && !has("transformer.mlp") && !has("transformer.attention"))
    return found;
  found = {Numerics::F16};
  const std::string text = textOf(test, type);
  if (hasIntegers(type) && has("transformer.matmul") &&
      text.find("tensor<37x256xf32>") == std::string::npos) // a plain weight beside it
    found.insert(found.end(), {Numerics::I8, Numerics::I8x2});
  return found;
}

/// Runs the function of a case with numerics on a session's target, which computes it right, or
/// refuses it naming the operation and the numerics. Whether it computes it.
inline bool expectRightOrRefusedIn(const ElementCase &test, const std::string &type,
                                   Numerics numerics, SessionOptions options) {
  const std::string text = textOf(test, type), name(numericsName(numerics));
  SCOPED_TRACE(fmt::format("{}, {}: {}", type, name, text));
  auto outcome = runFunction(text, std::move(options), std::hash<std::string>()(text), numerics);
  if (outcome) {
    EXPECT_TRUE(outcome->isRight()) << outcome->why();
    return true;
  }
  EXPECT_EQ(outcome.error().kind, ErrorKind::Unusable);
  EXPECT_THAT(outcome.error().line(),
              testing::AllOf(testing::AnyOf(testing::HasSubstr("transformer.matmul"),
                                            testing::HasSubstr("transformer.attention")),
                             testing::HasSubstr("its numerics are to multiply in " + name)));
  return false;
}

/// Runs the function of a case on a session's target, which computes it right, or where
/// `isRefused` names operation and operand.
inline void expectRightOrRefused(const ElementCase &test, const std::string &type,
                                 SessionOptions options, bool isRefused) {
  const std::string text = textOf(test, type);
  SCOPED_TRACE(fmt::format("{}{}: {}", type, options.fuse ? "" : ", not fused", text));
  auto outcome = runFunction(text, std::move(options), /*seed=*/std::hash<std::string>()(text));
  if (!isRefused) {
    ASSERT_TRUE(outcome) << outcome.error().line();
    EXPECT_TRUE(outcome->isRight()) << outcome->why();
    return;
  }
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().kind, ErrorKind::Unusable);
  const std::string operand = test.operand;
  const std::string what = operand == "result" ? operand : "operand '" + operand + "'";
  EXPECT_THAT(outcome.error().line(),
              testing::AllOf(testing::HasSubstr(std::string("transformer.") + test.op),
                             testing::HasSubstr(fmt::format("its {} holds {}", what, type))));
}

} // namespace kernelforge
