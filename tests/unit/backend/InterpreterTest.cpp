// The reference backend: the same decoder at every stage, single operations from text, refusals.
#include "InterpreterFixture.h"

#include "kernelforge/ir/Transformer.h"
#include "kernelforge/kernels/Layout.h"

#include "mlir/Parser/Parser.h"

#include <algorithm>
#include <cmath>
#include <gmock/gmock.h>

using namespace mlir;
using testing::ElementsAre;
using testing::HasSubstr;

namespace kernelforge {
namespace {

using reference::Precision;

//===----------------------------------------------------------------------===//
// Whole decoders
//===----------------------------------------------------------------------===//

/// A decoder as unlike Llama as the description allows.
ModelDescription smallGpt() {
  ModelDescription d = smallLlama();
  d.learnedPositions = true;
  d.ropes.clear();
  d.tiedHead = false;
  d.finalNorm.kind = NormKind::Layer;
  for (LayerDescription &layer : d.layers) {
    layer.beforeAttention = layer.beforeMlp = d.finalNorm;
    layer.attention = {.heads = 4, .kvHeads = 4, .headDim = 16, .bias = true, .outputBias = true};
    layer.mlp = {.width = 96, .activation = ActivationKind::Gelu, .gated = false, .bias = true};
  }
  return d;
}

ModelDescription smallGemma() {
  ModelDescription d = smallLlama();
  d.ropes[0].pairing = RopePairing::Interleaved;
  d.ropes[0].rotaryDim = 8;
  d.logitSoftcap = 1.5;
  d.embeddingScale = 8;
  for (LayerDescription &layer : d.layers) {
    layer.afterAttention = layer.afterMlp = NormDescription{};
    layer.mlp.activation = ActivationKind::GeluTanh;
    layer.attention.window = 3;
    layer.attention.scale = 0.3;
    layer.attention.softcap = 2.0;
  }
  return d;
}

const std::vector<int32_t> prompt = {7, 0, 40, 13, 13, 2, 31};

class Decoders : public testing::TestWithParam<ModelDescription (*)()> {};

TEST_P(Decoders, GiveTheSameAtEveryStage) {
  SmallDecoder built(GetParam()(), Stage::Built);
  const std::vector<float> expected = built.feed("prefill", prompt, 3);
  ASSERT_TRUE(built.last) << built.last.error().line();
  ASSERT_TRUE(std::ranges::all_of(expected, [](float x) { return std::isfinite(x); }));
  ASSERT_GT(*std::ranges::max_element(expected) - *std::ranges::min_element(expected), 0.1f);
  for (Stage stage :
       {Stage::Decomposed, Stage::Merged, Stage::LaidOut, Stage::Fused, Stage::OneKernelEach}) {
    SmallDecoder compiled(GetParam()(), stage);
    EXPECT_EQ(compiled.feed("prefill", prompt, 3), expected) << "stage " << static_cast<int>(stage);
    EXPECT_TRUE(compiled.last) << compiled.last.error().line();
  }
}

TEST_P(Decoders, PrefillIsDecodeTokenByToken) {
  SmallDecoder decoder(GetParam()(), Stage::Fused);
  const std::vector<float> expected = decoder.feed("prefill", prompt, prompt.size());
  decoder.reset();
  std::vector<float> actual;
  for (int32_t id : prompt) {
    const std::vector<float> logits = decoder.feed("decode", {id}, 1);
    ASSERT_TRUE(decoder.last) << decoder.last.error().line();
    actual.insert(actual.end(), logits.begin(), logits.end());
  }
  EXPECT_EQ(actual, expected);
  // In two pieces it is the same too.
  decoder.reset();
  decoder.feed("prefill", {prompt.begin(), prompt.begin() + 3}, 1);
  actual = decoder.feed("prefill", {prompt.begin() + 3, prompt.end()}, 4);
  EXPECT_EQ(actual, std::vector<float>(expected.end() - actual.size(), expected.end()));
}

TEST_P(Decoders, DependOnEveryEarlierToken) {
  SmallDecoder decoder(GetParam()(), Stage::Fused);
  const std::vector<float> expected = decoder.feed("prefill", prompt, 1);
  std::vector<int32_t> other = prompt;
  other[prompt.size() - 3] = 1; // within the narrowest window
  decoder.reset();
  EXPECT_NE(decoder.feed("prefill", other, 1), expected);
}

INSTANTIATE_TEST_SUITE_P(Interpreter, Decoders, testing::Values(smallLlama, smallGpt, smallGemma));

//===----------------------------------------------------------------------===//
// Operations from text
//===----------------------------------------------------------------------===//

class FromText : public testing::Test {
protected:
  /// Makes an interpreter of @f of a module in text.
  Expected<Interpreter> parse(const std::string &text) {
    context.loadDialect<transformer::TransformerDialect, func::FuncDialect, arith::ArithDialect>();
    module = parseSourceString<ModuleOp>(text, &context);
    if (!module)
      return unusable("text does not parse", "test", text);
    return Interpreter::create(*module, "f");
  }

  /// The error of parsing and running with these sizes and arguments.
  std::string error(const std::string &text, std::vector<int64_t> sizes = {},
                    std::vector<void *> arguments = {}, size_t results = 1) {
    auto interpreter = parse(text);
    if (!interpreter)
      return interpreter.error().line();
    std::vector<float> memory(64, NAN);
    std::vector<void *> out(results, memory.data());
    Status status = interpreter->run({sizes, arguments, out});
    return status ? "no error" : status.error().line();
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> module;
};

const std::string rowsOf3 = "tensor<?x3xf32, #transformer.dims<\"rows\">>";
const std::string sizeRows = "%n: index {transformer.size = #transformer.size<\"rows\", 1 to 4>}";

TEST_F(FromText, AttributesReachTheOperations) {
  auto interpreter =
      parse("func.func @f(" + sizeRows + ", %x: " + rowsOf3 + ", %w: tensor<3x3xf32>) -> (" +
            rowsOf3 + ", " + rowsOf3 + ", " + rowsOf3 + R"() {
      %m = transformer.matmul %x weights(%w) {transpose} : ()" +
            rowsOf3 + ", tensor<3x3xf32>) -> " + rowsOf3 + R"(
      %s = transformer.scale %m {factor = 0.5, softcap = 2.0} : )" +
            rowsOf3 + R"(
      %t = transformer.softmax %m : )" +
            rowsOf3 + R"(
      return %m, %s, %t : )" +
            rowsOf3 + ", " + rowsOf3 + ", " + rowsOf3 + "}");
  ASSERT_TRUE(interpreter) << interpreter.error().line();
  std::vector<float> x = {1, 2, 3, 0, -1, 1}, w = {1, 0, 2, 0, 1, 0, 1, 1, 1}, m(6), s(6), t(6);
  std::vector<void *> arguments = {x.data(), w.data()}, results = {m.data(), s.data(), t.data()};
  const std::vector<int64_t> sizes = {2};
  Status status = interpreter->run({sizes, arguments, results});
  ASSERT_TRUE(status) << status.error().line();
  EXPECT_EQ(m, (std::vector<float>{4, 5, 5, 1, 0, 1}));
  for (size_t i = 0; i < 6; ++i)
    EXPECT_FLOAT_EQ(s[i], 2 * std::tanh(m[i] / 4));
  EXPECT_FLOAT_EQ(t[0], 1 / (1 + 2 * std::exp(1.0f)));
  EXPECT_FLOAT_EQ(t[4], 1 / (1 + 2 * std::exp(1.0f)));
}

TEST_F(FromText, HalfPrecisionRowsAreRoundedOnceForEachOperation) {
  auto interpreter = parse(R"(
    func.func @f(%a: tensor<1x2xf16>, %b: tensor<1x2xf16>) -> tensor<1x2xf16> {
      %s = transformer.add %a, %b : tensor<1x2xf16>
      %t = transformer.add %s, %b : tensor<1x2xf16>
      return %t : tensor<1x2xf16>
    })");
  ASSERT_TRUE(interpreter) << interpreter.error().line();
  // 2048 + 1 is 2048 in f16 (ties to even), and again; 1 + 0.5 + 0.5 is exact.
  std::vector<uint16_t> a = {floatToHalf(2048), floatToHalf(1)},
                        b = {floatToHalf(1), floatToHalf(0.5f)}, out(2);
  std::vector<void *> arguments = {a.data(), b.data()}, results = {out.data()};
  ASSERT_TRUE(interpreter->run({{}, arguments, results}));
  EXPECT_EQ(halfToFloat(out[0]), 2048.0f);
  EXPECT_EQ(halfToFloat(out[1]), 2.0f);
}

TEST_F(FromText, WithinAKernelOnlyCastsRoundAndWhatLeavesItIsRounded) {
  auto run = [&](const std::string &between, const std::string &second, Precision precision) {
    auto interpreter = parse(R"(
    transformer.kernel @k(%a: tensor<1x2xf16>, %b: tensor<1x2xf16>) -> (tensor<1x2xf16>, tensor<1x2xf16>) {
      %s = transformer.add %a, %b : tensor<1x2xf16>
      )" + between + R"(
      %t = transformer.add )" +
                             second + R"(, %b : tensor<1x2xf16>
      transformer.yield %t, %s : tensor<1x2xf16>, tensor<1x2xf16>
    }
    func.func @f(%a: tensor<1x2xf16>, %b: tensor<1x2xf16>) -> (tensor<1x2xf16>, tensor<1x2xf16>) {
      %r:2 = transformer.launch @k(%a, %b) : (tensor<1x2xf16>, tensor<1x2xf16>)
          -> (tensor<1x2xf16>, tensor<1x2xf16>)
      %n = transformer.scale %r#1 {factor = 1.5} : tensor<1x2xf16>
      return %r#0, %n : tensor<1x2xf16>, tensor<1x2xf16>
    })");
    EXPECT_TRUE(interpreter) << interpreter.error().line();
    // 2049 lies between 2048 and 2050 in f16, whose even is 2048; 2051 between 2050 and 2052.
    std::vector<uint16_t> a = {floatToHalf(2048), floatToHalf(2050)},
                          b = {floatToHalf(1), floatToHalf(1)}, out(2), scaled(2);
    std::vector<void *> arguments = {a.data(), b.data()}, results = {out.data(), scaled.data()};
    EXPECT_TRUE(interpreter->run({{}, arguments, results}, {}, precision));
    return std::vector<float>{halfToFloat(out[0]), halfToFloat(out[1]), halfToFloat(scaled[0]),
                              halfToFloat(scaled[1])};
  };
  EXPECT_THAT(run("", "%s", Precision::Wide), ElementsAre(2050, 2052, 3072, 3078));
  EXPECT_THAT(run("", "%s", Precision::Exact), ElementsAre(2050, 2052, 3074, 3076));
  EXPECT_THAT(
      run("%c = transformer.cast %s : tensor<1x2xf16> to tensor<1x2xf16>", "%c", Precision::Wide),
      ElementsAre(2048, 2052, 3072, 3078));
}

TEST_F(FromText, OperandsAreRoundedAsNumericsSayUnlessWhatIsRightIsAskedFor) {
  auto interpreter = parse(R"(
    transformer.kernel @k(%x: tensor<1x2xf32>, %w: tensor<1x2xf32>) -> tensor<1x1xf32> {
      %m = transformer.matmul %x weights(%w) {numerics = #transformer.numerics<multiply = f16>}
          : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
      transformer.yield %m : tensor<1x1xf32>
    }
    func.func @f(%x: tensor<1x2xf32>, %w: tensor<1x2xf32>, %d: tensor<2x1xf32>)
        -> (tensor<1x1xf32>, tensor<1x2xf32>) {
      %m = transformer.launch @k(%x, %w) : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
      %l = transformer.mlp %x up(%w) down(%d) <relu> {numerics = #transformer.numerics<multiply = f16>}
          : (tensor<1x2xf32>, tensor<1x2xf32>, tensor<2x1xf32>) -> tensor<1x2xf32>
      return %m, %l : tensor<1x1xf32>, tensor<1x2xf32>
    })");
  ASSERT_TRUE(interpreter) << interpreter.error().line();
  // Beside 1 and 2 f16 has no such small steps.
  std::vector<float> x = {1 + 0x1p-12f, 0}, w = {2 + 0x1p-11f, 5}, d = {1, 1 + 0x1p-12f}, m(1),
                     l(2);
  std::vector<void *> arguments = {x.data(), w.data(), d.data()}, results = {m.data(), l.data()};
  for (Precision precision : {Precision::Wide, Precision::Plain}) {
    ASSERT_TRUE(interpreter->run({{}, arguments, results}, {}, precision));
    EXPECT_EQ(m[0], 2);
    EXPECT_EQ(l, (std::vector<float>{2, 2}));
  }
  ASSERT_TRUE(interpreter->run({{}, arguments, results}, {}, Precision::Exact));
  EXPECT_EQ(m[0], 2 + 0x1p-10f + 0x1p-23f);
  EXPECT_GT(l[1], m[0]);
}

TEST_F(FromText, RefusesNumericsWithoutReferenceSemantics) {
  EXPECT_THAT(error(R"(
    func.func @f(%x: tensor<1x2xf32>, %w: tensor<1x2xf32>) -> tensor<1x1xf32> {
      %m = transformer.matmul %x weights(%w) {numerics = #transformer.numerics<multiply = fp8>}
          : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
      return %m : tensor<1x1xf32>
    })"),
              HasSubstr("transformer.matmul in @f): numerics fp8 have no reference semantics"));
}

TEST_F(FromText, PackBringsAWeightIntoItsLayout) {
  std::vector<std::byte> weight(5 * 40);
  for (size_t i = 0; i < weight.size(); ++i)
    weight[i] = static_cast<std::byte>(i);
  for (auto [attribute, layout] : {std::pair("interleaved, rows = 16", WeightLayout::Interleaved),
                                   std::pair("planes", WeightLayout::Planes)}) {
    const std::string plain = "tensor<5x64x!transformer.quant<q4_1>>";
    const std::string packed =
        fmt::format("tensor<5x64x!transformer.quant<q4_1>, #transformer.layout<{}>>", attribute);
    auto interpreter = parse(fmt::format(R"(
      func.func @f(%w: {0}) -> {1} {{
        %p = transformer.pack %w : {0} to {1}
        return %p : {1}
      }})",
                                         plain, packed));
    ASSERT_TRUE(interpreter) << interpreter.error().line();
    const size_t bytes = layoutBytes(layout, ElementType::Q4_1, 5, 64).value();
    std::vector<std::byte> out(bytes, std::byte{1}), expected(bytes);
    packWeight(layout, ElementType::Q4_1, weight.data(), 5, 64, expected.data());
    std::vector<void *> arguments = {weight.data()}, results = {out.data()};
    ASSERT_TRUE(interpreter->run({{}, arguments, results}));
    EXPECT_EQ(out, expected) << attribute;
  }
}

TEST_F(FromText, RefusesLengthsAboveTheirBound) {
  const std::string text = R"(
    func.func @f(%c: index {transformer.size = #transformer.size<"cached", 1 to 8>},
                 %x: tensor<1x2xf32>, %k: !transformer.cache<1, 2, f32>,
                 %v: !transformer.cache<1, 2, f32>, %index: tensor<1xi32>, %sequence: tensor<1xi32>,
                 %table: tensor<1xi32>, %lengths: tensor<1xi32>) -> tensor<1x2xf32> {
      %y = transformer.attention %x, %k, %v positions(%index) sequences(%sequence) table(%table)
          lengths(%lengths) {heads = 1 : i64, scale = 1.0 : f64, cached = "cached"} :
          (tensor<1x2xf32>, !transformer.cache<1, 2, f32>, !transformer.cache<1, 2, f32>,
           tensor<1xi32>, tensor<1xi32>, tensor<1xi32>, tensor<1xi32>) -> tensor<1x2xf32>
      return %y : tensor<1x2xf32>
    })";
  std::vector<float> x(2), keys(8 * 2), values(8 * 2);
  std::vector<int32_t> position = {2}, zero = {0}, length = {3};
  const std::vector<void *> arguments = {x.data(),    keys.data(), values.data(), position.data(),
                                         zero.data(), zero.data(), length.data()};
  EXPECT_EQ(error(text, {3}, arguments), "no error");
  EXPECT_THAT(error(text, {2}, arguments),
              HasSubstr("sequence 0 has length 3, above the 2 of size 'cached'"));
  position = {4}; // a row sees what is up to its own position, whatever the length
  EXPECT_EQ(error(text, {5}, arguments), "no error");
  EXPECT_THAT(error(text, {4}, arguments),
              HasSubstr("row 0 sees 5 positions, above the 4 of size 'cached'"));
}

const std::string pagedAttention = R"(
    func.func @f(%n: index {transformer.size = #transformer.size<"rows", 1 to 4>},
                 %s: index {transformer.size = #transformer.size<"sequences", 1 to 2>},
                 %p: index {transformer.size = #transformer.size<"pages", 1 to 2>},
                 %x: tensor<?x3xf32, #transformer.dims<"rows">>,
                 %k: !transformer.cache<1, 3, f32, page = 2>,
                 %v: !transformer.cache<1, 3, f16, page = 2>,
                 %slots: tensor<?xi32, #transformer.dims<"rows">>,
                 %sequences: tensor<?xi32, #transformer.dims<"rows">>,
                 %positions: tensor<?xi32, #transformer.dims<"rows">>,
                 %table: tensor<?x?xi32, #transformer.dims<"sequences", "pages">>,
                 %lengths: tensor<?xi32, #transformer.dims<"sequences">>)
        -> tensor<?x3xf32, #transformer.dims<"rows">> {
      transformer.cache_append %x, %slots into %k : !transformer.cache<1, 3, f32, page = 2>,
        tensor<?x3xf32, #transformer.dims<"rows">>, tensor<?xi32, #transformer.dims<"rows">>
      transformer.cache_append %x, %slots into %v : !transformer.cache<1, 3, f16, page = 2>,
        tensor<?x3xf32, #transformer.dims<"rows">>, tensor<?xi32, #transformer.dims<"rows">>
      %y = transformer.attention %x, %k, %v positions(%positions) sequences(%sequences)
          table(%table) lengths(%lengths) {heads = 1 : i64, scale = 0.0 : f64} :
          (tensor<?x3xf32, #transformer.dims<"rows">>, !transformer.cache<1, 3, f32, page = 2>,
           !transformer.cache<1, 3, f16, page = 2>, tensor<?xi32, #transformer.dims<"rows">>,
           tensor<?xi32, #transformer.dims<"rows">>,
           tensor<?x?xi32, #transformer.dims<"sequences", "pages">>,
           tensor<?xi32, #transformer.dims<"sequences">>)
          -> tensor<?x3xf32, #transformer.dims<"rows">>
      return %y : tensor<?x3xf32, #transformer.dims<"rows">>
    })";

TEST_F(FromText, PagedAttentionOfTwoSequences) {
  // Scale 0 makes each result the mean of the rows seen: sequence 0 has rows 0, 2 and 3, sequence 1
  // row 1. Pages: sequence 0 in pages 3 and 0, sequence 1 in page 2 (its second one is not there).
  std::vector<float> x = {1, 2, 3, 100, 200, 300, 3, 4, 5, 5, 6, 10}, keys(8 * 3, NAN), out(12);
  std::vector<uint16_t> values(8 * 3, 0x7e00);
  std::vector<int32_t> slots = {6, 4, 7, 0}, sequences = {0, 1, 0, 0}, positions = {0, 0, 1, 2},
                       table = {3, 0, 2, -1}, lengths = {3, 1};
  std::vector<void *> arguments = {x.data(),     keys.data(),      values.data(),
                                   slots.data(), sequences.data(), positions.data(),
                                   table.data(), lengths.data()};
  std::vector<void *> results = {out.data()};
  const std::vector<int64_t> sizes = {4, 2, 2};
  auto interpreter = parse(pagedAttention);
  ASSERT_TRUE(interpreter) << interpreter.error().line();
  Status status = interpreter->run({sizes, arguments, results});
  ASSERT_TRUE(status) << status.error().line();
  EXPECT_EQ(out, (std::vector<float>{1, 2, 3, 100, 200, 300, 2, 3, 4, 3, 4, 6}));

  positions[1] = 2; // in the page that is not there
  EXPECT_THAT(error(pagedAttention, sizes, arguments),
              HasSubstr("transformer.attention in @f): row 1 sees position 2 of sequence 1, which "
                        "has no slot"));
  positions[1] = 4;
  EXPECT_THAT(error(pagedAttention, sizes, arguments),
              HasSubstr("row 1 sees position 4, but the table has 2 pages of 2"));
  sequences[1] = 2;
  EXPECT_THAT(error(pagedAttention, sizes, arguments), HasSubstr("sequences[1] is 2"));
}

//===----------------------------------------------------------------------===//
// Refusals
//===----------------------------------------------------------------------===//

const std::string identity = "func.func @f(" + sizeRows + ", %x: " + rowsOf3 + ") -> " + rowsOf3 +
                             " { %y = transformer.softmax %x : " + rowsOf3 +
                             " return %y : " + rowsOf3 + " }";

TEST_F(FromText, WrongBindingsAreRefused) {
  std::vector<float> x(12);
  EXPECT_EQ(error(identity, {4}, {x.data()}), "no error");
  EXPECT_THAT(error(identity, {5}, {x.data()}),
              HasSubstr("size 'rows' is 5, out of the range 1 to 4"));
  EXPECT_THAT(error(identity, {0}, {x.data()}), HasSubstr("size 'rows' is 0"));
  EXPECT_THAT(error(identity, {}, {x.data()}), HasSubstr("0 sizes are given where 1 are needed"));
  EXPECT_THAT(error(identity, {1}, {}), HasSubstr("0 arguments are given where 1 are needed"));
  EXPECT_THAT(error(identity, {1}, {nullptr}), HasSubstr("argument 1 is not bound"));
  EXPECT_THAT(error(identity, {1}, {x.data()}, 0), HasSubstr("0 results are given where 1"));
}

TEST_F(FromText, ACancelledRunEndsAsInterrupted) {
  auto interpreter = parse(identity);
  ASSERT_TRUE(interpreter);
  std::vector<float> x(3, 1.0f), y(3, 7.0f);
  std::vector<void *> arguments = {x.data()}, results = {y.data()};
  const std::vector<int64_t> sizes = {1};
  std::atomic<bool> cancel = true;
  Status status = interpreter->run({sizes, arguments, results}, {.cancel = &cancel});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::Interrupted);
  EXPECT_EQ(y, std::vector<float>(3, 7.0f));
}

TEST_F(FromText, LaunchesAreTimed) {
  const std::string launch =
      " = transformer.launch @k(%n, %x) : (index, " + rowsOf3 + ") -> " + rowsOf3 + " ";
  auto interpreter = parse(
      "transformer.kernel @k(" + sizeRows + ", %x: " + rowsOf3 + ") -> " + rowsOf3 +
      " { %y = transformer.softmax %x : " + rowsOf3 + " transformer.yield %y : " + rowsOf3 +
      " } func.func @f(" + sizeRows + ", %x: " + rowsOf3 + ") -> (" + rowsOf3 + ", " + rowsOf3 +
      ") { %y" + launch + "%z" + launch + " return %y, %z : " + rowsOf3 + ", " + rowsOf3 + " }");
  ASSERT_TRUE(interpreter) << interpreter.error().line();
  std::vector<float> x(3, 1.0f), y(3), z(3);
  std::vector<void *> arguments = {x.data()}, results = {y.data(), z.data()};
  const std::vector<int64_t> sizes = {1};
  std::vector<int64_t> times = {99, 99, 99};
  ASSERT_TRUE(interpreter->run({sizes, arguments, results}, {.launchNanoseconds = &times}));
  ASSERT_EQ(times.size(), 2u);
  EXPECT_GT(times[0], 0);
  EXPECT_EQ(y, std::vector<float>(3, 1.0f / 3.0f));
  EXPECT_EQ(z, y);
}

TEST_F(FromText, WhatCannotBeInterpretedIsNamed) {
  EXPECT_THAT(error("func.func private @g()"), HasSubstr("(@f): the module has no such function"));
  EXPECT_THAT(error("func.func private @f()"), HasSubstr("no body of one block"));
  EXPECT_THAT(error("func.func @f(%n: index) { return }"),
              HasSubstr("argument 0 is an index without transformer.size"));
  EXPECT_THAT(error("func.func @f(%x: tensor<?x3xf32>) { return }"),
              testing::AllOf(HasSubstr("unnamed dynamic dimension"),
                             HasSubstr("#transformer.dims<\"rows\">")));
  EXPECT_THAT(error("func.func @f(%x: " + rowsOf3 + ") { return }"),
              HasSubstr("follows a size that the function does not take"));
  EXPECT_THAT(error("func.func @f(%x: tensor<2x2x2xf32>) { return }"), HasSubstr("one or two"));
  EXPECT_THAT(
      error("func.func @f() -> tensor<1x1xf32> {"
            " %x = arith.constant dense<1.0> : tensor<1x1xf32>"
            " return %x : tensor<1x1xf32> }"),
      HasSubstr("arith.constant in @f): only operations of the transformer dialect can be run"));
  EXPECT_THAT(error("func.func @f(" + sizeRows + ") -> index { return %n : index }"),
              HasSubstr("only tensors can be returned"));
}

TEST_F(FromText, AStepEndsWithItsTokensAndTheNextState) {
  // Rows: goes on; was none; is at its limit; has no page left; goes on into the next page.
  auto interpreter = parse(R"(
    func.func @f(%x: tensor<5x3xf32>, %s: tensor<5x5xf32>, %d: tensor<5x3xi32>, %p: tensor<5xi32>,
        %slots: tensor<5xi32>, %of: tensor<5xi32>, %t: tensor<5x2xi32>, %l: tensor<5xi32>,
        %limits: tensor<5xi32>, %r: tensor<5x2xi32>)
        -> (tensor<5xi32>, tensor<5xi32>, tensor<5xi32>, tensor<5xi32>, tensor<5x2xi32>) {
      %i = transformer.sample %x settings(%s) draws(%d) positions(%p) recent(%r)
        : (tensor<5x3xf32>, tensor<5x5xf32>, tensor<5x3xi32>, tensor<5xi32>, tensor<5x2xi32>)
        -> tensor<5xi32>
      %a:5 = transformer.advance %i, %p, %slots sequences(%of) table(%t) lengths(%l)
        limits(%limits) recent(%r) {page = 4} : (tensor<5xi32>, tensor<5xi32>, tensor<5xi32>,
        tensor<5xi32>, tensor<5x2xi32>, tensor<5xi32>, tensor<5xi32>, tensor<5x2xi32>)
        -> (tensor<5xi32>, tensor<5xi32>, tensor<5xi32>, tensor<5xi32>, tensor<5x2xi32>)
      return %a#0, %a#1, %a#2, %a#3, %a#4
        : tensor<5xi32>, tensor<5xi32>, tensor<5xi32>, tensor<5xi32>, tensor<5x2xi32>
    })");
  ASSERT_TRUE(interpreter) << interpreter.error().line();
  using Ints = std::vector<int32_t>;
  std::vector<float> x = {1, 3, 2, -INFINITY, NAN, -INFINITY, 0, 0, 9, 5, 4, 0, 6, 6, 6}, s;
  for (int row = 0; row < 5; ++row) // greedy; ids that were there just now are halved
    s.insert(s.end(), {0, 1, 0, 0.5F, 2});
  Ints d(15, 0), p = {1, 2, 3, 7, 3}, slots = {1, -1, 3, 7, 3}, of = {0, 1, 2, 3, 4};
  Ints table = {3, 5, 1, 1, 2, 2, 6, 7, 9, 11}, l = {2, 3, 4, 8, 4}, limits = {9, 9, 4, 99, 9};
  Ints r = {1, -1, -1, -1, -1, 7, 0, 1, 2, 0};
  Ints ids(5), positions(5), next(5), lengths(5), recent(10);
  std::vector<void *> arguments = {x.data(),  s.data(),     d.data(), p.data(),      slots.data(),
                                   of.data(), table.data(), l.data(), limits.data(), r.data()};
  std::vector<void *> results = {ids.data(), positions.data(), next.data(), lengths.data(),
                                 recent.data()};
  Status status = interpreter->run({{}, arguments, results});
  ASSERT_TRUE(status) << status.error().line();
  EXPECT_EQ(ids, (Ints{2, 0, 2, 0, 1})); // 3 / 2 is less than 2; no logits: 0
  EXPECT_EQ(positions, (Ints{2, 2, 3, 7, 4}));
  EXPECT_EQ(next, (Ints{14, -1, -1, -1, 44}));
  EXPECT_EQ(lengths, (Ints{3, 3, 4, 8, 5}));
  EXPECT_EQ(recent, (Ints{-1, 2, -1, -1, -1, 7, 0, 1, 0, 1}));
}

TEST_F(FromText, AModuleThatBecameInvalidIsRefused) {
  ASSERT_TRUE(parse(identity));
  // A width that softmax cannot change.
  module->walk([](transformer::SoftmaxOp op) {
    op.getOutput().setType(cast<RankedTensorType>(op.getInput().getType()).clone({1, 2}));
  });
  auto interpreter = Interpreter::create(*module, "f");
  ASSERT_FALSE(interpreter);
  EXPECT_THAT(interpreter.error().line(), HasSubstr("module is not valid"));
}

TEST(Refusals, IndicesOutOfRangeNameTheOperation) {
  SmallDecoder decoder(smallLlama(), Stage::Fused);
  auto errorWith = [&](const std::string &input, std::vector<int32_t> values) {
    decoder.reset();
    decoder.override = {{input, std::move(values)}};
    decoder.feed("prefill", {1, 2, 3}, 1);
    return decoder.last ? "no error" : decoder.last.error().line();
  };
  EXPECT_EQ(errorWith("ids", {0, 1, 40}), "no error");
  EXPECT_THAT(errorWith("ids", {0, 1, 41}), HasSubstr("ids[2] is 41, out of the range 0 to 40"));
  EXPECT_THAT(errorWith("ids", {0, -1, 4}), HasSubstr("transformer.embedding in @prefill"));
  EXPECT_THAT(errorWith("outputs", {3}), HasSubstr("rows[0] is 3, out of the range 0 to 2"));
  EXPECT_THAT(errorWith("positions", {0, 1, 48}), HasSubstr("positions[2] is 48"));
  EXPECT_THAT(errorWith("sequences", {0, 1, 0}), HasSubstr("sequences[1] is 1"));
  EXPECT_THAT(errorWith("table", {-1}), HasSubstr("has no slot in the table"));
}

} // namespace
} // namespace kernelforge
