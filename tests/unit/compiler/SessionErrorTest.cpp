// What a session refuses, and that it says why.
#include "DecoderFixture.h"

#include "mlir/Parser/Parser.h"

#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/compiler/Targets.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// Fails the test unless `status` is an error of that kind whose line holds all the texts.
template <typename Result>
void expectError(const Result &status, ErrorKind kind, const std::vector<std::string> &texts) {
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, kind);
  for (const std::string &text : texts)
    EXPECT_THAT(status.error().line(), HasSubstr(text));
}

Status compileText(const std::string &text, SessionOptions options = TestDecoder::options()) {
  auto session = Session::create(options);
  if (!session)
    return tl::unexpected<Error>(session.error());
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &(*session)->context());
  if (!module)
    return failed("text", "test", "it does not parse");
  return (*session)->compile(std::move(module));
}

class SessionErrors : public testing::Test {
protected:
  void SetUp() override {
    auto made =
        TestDecoder::create(decoderCase("LlamaInterleavedMixedTypes"), TestDecoder::options());
    ASSERT_TRUE(made) << made.error().line();
    decoder = std::move(*made);
  }
  std::unique_ptr<TestDecoder> decoder;
};

TEST_F(SessionErrors, BindWeight) {
  Session &session = decoder->session();
  std::vector<std::byte> bytes(77 * 64 * 2);
  EXPECT_TRUE(session.bindWeight("output.weight", ElementType::F16, bytes));
  expectError(session.bindWeight("no.such.weight", ElementType::F16, bytes), ErrorKind::Unusable,
              {"no.such.weight", "no function"});
  expectError(session.bindWeight("output.weight", ElementType::BF16, bytes), ErrorKind::Unusable,
              {"output.weight", "bf16", "f16"});
  bytes.pop_back();
  expectError(session.bindWeight("output.weight", ElementType::F16, bytes), ErrorKind::Unusable,
              {"9855 bytes", "9856"});
  expectError(session.bindWeight("output.weight", ElementType::F16, {}), ErrorKind::Unusable,
              {"0 bytes"});
  // Inputs and caches are no weights.
  expectError(session.bindWeight("ids", ElementType::I32, bytes), ErrorKind::Unusable, {"ids"});
  expectError(session.bindWeight("cache.0.k", ElementType::F32, bytes), ErrorKind::Unusable,
              {"cache.0.k"});
}

TEST_F(SessionErrors, Run) {
  Session &session = decoder->session();
  std::vector<float> out(TestDecoder::maxRows * 80);
  const std::span<std::byte> result = std::as_writable_bytes(std::span(out));
  auto run = [&](const std::string &function, std::vector<int64_t> sizes, size_t results = 1) {
    return session.run(function, sizes, {&result, results});
  };
  expectError(run("train", {1, 1, 1, 8, 8}), ErrorKind::Unusable, {"train"});
  expectError(run("decode", {1, 1, 1}), ErrorKind::Unusable, {"3 sizes", "5"});
  expectError(run("decode", {4, 1, 1, 8, 8}), ErrorKind::Unusable, {"tokens", "4", "1 to 3"});
  expectError(run("decode", {0, 1, 1, 8, 8}), ErrorKind::Unusable, {"tokens", "0"});
  expectError(run("prefill", {1, 1, 1, TestDecoder::context + 1, 8}), ErrorKind::Unusable,
              {"context", "41"});
  expectError(run("decode", {1, 1, 1, 8, TestDecoder::context + 1}), ErrorKind::Unusable,
              {"cached", "41"});
  expectError(run("decode", {1, 1, 1, 8, 8}, 0), ErrorKind::Unusable, {"result"});
  session.bind("blk.1.ffn_norm.weight", BufferRef{});
  expectError(run("decode", {1, 1, 1, 8, 8}), ErrorKind::Unusable,
              {"blk.1.ffn_norm.weight", "not bound"});
  float few[4];
  EXPECT_TRUE(session.bind("blk.1.ffn_norm.weight", std::as_writable_bytes(std::span(few))));
  expectError(run("decode", {1, 1, 1, 8, 8}), ErrorKind::Unusable,
              {"blk.1.ffn_norm.weight", "16 bytes"});
  std::atomic<bool> cancel{true};
  RunOptions options;
  options.cancel = &cancel;
  decoder->reset();
  EXPECT_FALSE(session.run("decode", std::vector<int64_t>{1, 1, 1, 8, 8}, {&result, 1}, options));
}

TEST_F(SessionErrors, CompileIsOncePerSession) {
  Session &session = decoder->session();
  auto before = decoder->converse();
  ASSERT_TRUE(before) << before.error().line();
  auto module = TestDecoder::build(session.context(), decoderCase("GptF32"));
  expectError(session.compile(std::move(module)), ErrorKind::Unusable, {"once"});
  decoder->reset();
  EXPECT_EQ(decoder->converse().value_or(std::vector<float>()), *before)
      << "the first module must still be there";
}

TEST(SessionCompileErrors, NothingToRun) {
  expectError(compileText("module {}"), ErrorKind::Unusable, {"no function"});
  expectError(compileText("func.func private @only_declared(tensor<4xf32>)"), ErrorKind::Unusable,
              {"no function"});
  expectError(compileText("func.func @nothing() { return }"), ErrorKind::Unusable, {"no function"});
  SessionOptions reference = TestDecoder::options();
  reference.target = referenceTarget();
  expectError(compileText("module {}", reference), ErrorKind::Unusable, {"no function"});
}

/// A function of one add, with `extra` before it.
std::string addText(const std::string &arguments, const std::string &extra,
                    const std::string &sizes = R"(#transformer.size<"rows", 1 to 8>)") {
  return "!rows = tensor<?x8xf32, #transformer.dims<\"rows\">>\n"
         "func.func @f(%n: index {transformer.size = " +
         sizes + "}, %x: !rows" + arguments + ") -> !rows {\n" + extra +
         "  %y = transformer.add %x, %x : !rows\n  return %y : !rows\n}";
}

TEST(SessionCompileErrors, FunctionsThatAreNotLaunchesAlone) {
  EXPECT_TRUE(compileText(addText("", "")));
  expectError(compileText(addText("", "  %c = arith.constant 3 : index\n"
                                      "  %d = vector.broadcast %c : index to vector<4xindex>\n"
                                      "  vector.print %d : vector<4xindex>\n")),
              ErrorKind::Unusable,
              {"f, arith.constant", "only operations of the transformer dialect"});
  expectError(compileText(addText(", %s: f32", "")), ErrorKind::Unusable,
              {"argument 2", "neither a size, a tensor nor a cache"});
  expectError(compileText(addText(", %m: index", "")), ErrorKind::Unusable, {"argument 2"});
  expectError(compileText(addText(", %t: tensor<f32>", "")), ErrorKind::Unusable, {"tensor"});
  expectError(compileText(addText(", %t: tensor<2x2x2xf32>", "")), ErrorKind::Unusable, {"tensor"});
  expectError(compileText(addText(", %t: tensor<?xf32>", "")), ErrorKind::Unusable, {"size"});
  expectError(compileText(addText(
                  ", %m: index {transformer.size = #transformer.size<\"rows\", 1 to 9>}", "")),
              ErrorKind::Unusable, {"'rows'", "twice"});
}

TEST(SessionCompileErrors, SizesThatOverflow) {
  std::string most = R"(#transformer.size<"rows", 1 to 9223372036854775807>)";
  expectError(compileText(addText("", "", most)), ErrorKind::Unusable, {"overflow"});
  // An intermediate, which lies in the arena: twice 2^62 rows of 32 bytes wrap to nothing.
  std::string text = R"(
!rows = tensor<?x8xf32, #transformer.dims<"rows">>
func.func @f(%n: index {transformer.size = #transformer.size<"rows", 1 to 4611686018427387904>},
             %x: !rows, %w: tensor<8xf32>) -> !rows {
  %y = transformer.softmax %x : !rows
  %z = transformer.rms_norm %y, %w {epsilon = 1.0e-5} : (!rows, tensor<8xf32>) -> !rows
  return %z : !rows
})";
  SessionOptions options = TestDecoder::options();
  options.fuse = false;
  expectError(compileText(text, options), ErrorKind::Unusable, {"overflow"});
}

/// A kernel for up to 8 rows of `name`, launched with the function's %argument.
std::string launchText(const std::string &argument) {
  return R"(
!rows = tensor<?x8xf32, #transformer.dims<"rows">>
transformer.kernel @k(%n: index {transformer.size = #transformer.size<"rows", 1 to 8>}, %x: !rows)
    -> !rows {
  %y = transformer.add %x, %x : !rows
  transformer.yield %y : !rows
}
func.func @f(%rows: index {transformer.size = #transformer.size<"rows", 1 to 8>},
             %others: index {transformer.size = #transformer.size<"others", 1 to 8>},
             %many: index {transformer.size = #transformer.size<"many", 1 to 512>},
             %x: !rows) -> !rows {
  %y = transformer.launch @k()" +
         argument + R"(, %x) : (index, !rows) -> !rows
  return %y : !rows
})";
}

TEST(SessionCompileErrors, LaunchesWithTheWrongSize) {
  EXPECT_TRUE(compileText(launchText("%rows")));
  expectError(compileText(launchText("%others")), ErrorKind::Unusable, {"@k", "rows", "others"});
  expectError(compileText(launchText("%many")), ErrorKind::Unusable, {"@k", "rows", "many"});
  std::string wide = launchText("%rows");
  wide.replace(wide.rfind("\"rows\", 1 to 8"), 14, "\"rows\", 1 to 9");
  expectError(compileText(wide), ErrorKind::Unusable, {"@k", "rows", "1 to 9", "1 to 8"});
}

TEST(SessionCompileErrors, WeightDeclaredInTwoWays) {
  // One name, two types: no bytes fit both.
  std::string text;
  for (const char *declared : {"f32", "f16"})
    text += std::string("func.func @") + declared + "(%x: tensor<4x8xf32>, %w: tensor<16x8x" +
            declared +
            "> {transformer.weight = \"w\"}) -> tensor<4x16xf32> {\n"
            "  %y = transformer.matmul %x weights(%w) : (tensor<4x8xf32>, tensor<16x8x" +
            declared + ">) -> tensor<4x16xf32>\n  return %y : tensor<4x16xf32>\n}\n";
  auto session = Session::create(TestDecoder::options());
  ASSERT_TRUE(session);
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &(*session)->context());
  ASSERT_TRUE(module);
  ASSERT_TRUE((*session)->compile(std::move(module)));
  std::vector<std::byte> bytes(16 * 8 * 4);
  expectError((*session)->bindWeight("w", ElementType::F32, bytes), ErrorKind::Unusable, {"w"});
  expectError((*session)->bindWeight("w", ElementType::F16, std::span(bytes).first(256)),
              ErrorKind::Unusable, {"w"});
}

TEST(SessionCompileErrors, InvalidDescription) {
  DecoderCase decoder = decoderCase("OddEverything"); // rows of 50 are no whole blocks of 32
  decoder.weightType = [](llvm::StringRef) { return ElementType::Q4_1; };
  auto session = Session::create(TestDecoder::options());
  ASSERT_TRUE(session);
  expectError((*session)->compile(TestDecoder::build((*session)->context(), decoder)),
              ErrorKind::Unusable, {"block"});
}

TEST(SessionCreateErrors, TargetAndThreads) {
  SessionOptions options = TestDecoder::options();
  options.target = parseTarget("native", "+xop,+avxvnniint16").value(); // no machine has both
  expectError(Session::create(options), ErrorKind::Missing, {"lacks"});
  options = TestDecoder::options();
  options.threads = -1;
  expectError(Session::create(options), ErrorKind::Unusable, {"-1"});
  options.threads = 1 << 30;
  expectError(Session::create(options), ErrorKind::Unusable, {"threads"});
}

TEST(SessionReference, RunsWhatNoKernelCanBeMadeOf) {
  // The CPU's code generator refuses other numerics than f32; the reference computes exactly.
  std::string text = R"(!t = tensor<2x8xf16>
func.func @f(%x: !t, %w: tensor<8x8xf16>) -> !t {
  %y = transformer.matmul %x weights(%w) {numerics = #transformer.numerics<multiply = f16, accumulate = f32>}
      : (!t, tensor<8x8xf16>) -> !t
  return %y : !t
})";
  expectError(compileText(text), ErrorKind::Unusable, {"numerics"});
  SessionOptions options = TestDecoder::options();
  options.target = referenceTarget();
  auto session = Session::create(options);
  ASSERT_TRUE(session);
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &(*session)->context());
  auto compiled = (*session)->compile(std::move(module));
  ASSERT_TRUE(compiled) << compiled.error().line();
  std::vector<uint16_t> x(16, floatToHalf(1.5f)), w(64, floatToHalf(0.25f)), y(16);
  ASSERT_TRUE((*session)->bind("arg0", std::as_writable_bytes(std::span(x))));
  ASSERT_TRUE((*session)->bind("arg1", std::as_writable_bytes(std::span(w))));
  const std::span<std::byte> result = std::as_writable_bytes(std::span(y));
  ASSERT_TRUE((*session)->run("f", {}, {&result, 1}));
  EXPECT_EQ(y, std::vector<uint16_t>(16, floatToHalf(3.0f)));
}

} // namespace
