// What a function may give: arguments, one value twice, nothing that was computed at all.
#include "DecoderFixture.h"

#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/problem/FunctionRun.h"
#include "kernelforge/problem/ModuleText.h"
#include "kernelforge/problem/Verification.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// All results and written caches of a module's one function on random data; the data, too.
struct Ran {
  FunctionData data;
  std::vector<std::vector<float>> outputs;

  std::vector<float> argument(size_t index) const { return data.arguments[index].toFloats(); }
};

class Results : public testing::TestWithParam<std::string> {
protected:
  /// Runs `text` and every later stage of it; all must give the reference's values.
  void run(const std::string &text, const SizeValues &sizes, Ran &ran) {
    runText(text, sizes, ran);
    if (HasFatalFailure())
      return;
    for (Stage stage : {Stage::Fused, Stage::Scheduled, Stage::Target, Stage::Llvm}) {
      SCOPED_TRACE(static_cast<int>(stage));
      Ran again;
      std::string later;
      reach(text, stage, later);
      runText(later, sizes, again);
      ASSERT_EQ(again.outputs, ran.outputs);
    }
  }

private:
  static void reach(const std::string &text, Stage stage, std::string &later) {
    auto context = std::make_unique<mlir::MLIRContext>();
    loadAllStages(context.get());
    auto module = parseModuleText(context.get(), text, "test");
    ASSERT_TRUE(module) << module.error().line();
    Status reached = runToStage(**module, stage, {TestDecoder::options().target, 2, true, {}, {}});
    ASSERT_TRUE(reached) << reached.error().line();
    llvm::raw_string_ostream(later) << **module;
  }

  static void runText(const std::string &text, const SizeValues &given, Ran &ran) {
    SessionOptions options = TestDecoder::options();
    if (GetParam() == "Reference")
      options.target = referenceTarget();
    auto session = Session::create(options);
    ASSERT_TRUE(session) << session.error().line();
    auto module = parseModuleText(&(*session)->context(), text, "test");
    ASSERT_TRUE(module) << module.error().line();
    auto function = findFunction(**module, "");
    ASSERT_TRUE(function) << function.error().line();
    auto signature = readSignature(*function);
    ASSERT_TRUE(signature) << signature.error().line();
    auto sizes = chooseSizes(*signature, given);
    ASSERT_TRUE(sizes) << sizes.error().line();
    auto data = randomData(*signature, *sizes, 7);
    ASSERT_TRUE(data) << data.error().line();
    ran.data = std::move(*data);
    auto reference = runReference(**module, *signature, ran.data);
    ASSERT_TRUE(reference) << reference.error().line();
    Status compiled = (*session)->compile(std::move(*module));
    ASSERT_TRUE(compiled) << compiled.error().line();
    auto bound = FunctionRun::create(**session, *signature, ran.data);
    ASSERT_TRUE(bound) << bound.error().line();
    bound->poisonResults();
    Status status = bound->run();
    ASSERT_TRUE(status) << status.error().line();
    const std::vector<const TensorData *> outputs = outputsOf(*signature, ran.data);
    ASSERT_EQ(outputs.size(), reference->size());
    for (size_t i = 0; i < outputs.size(); ++i) {
      ran.outputs.push_back(outputs[i]->toFloats());
      const std::vector<float> expected = (*reference)[i].toFloats();
      ASSERT_EQ(ran.outputs[i].size(), expected.size()) << i;
      for (size_t e = 0; e < expected.size(); ++e)
        ASSERT_NEAR(ran.outputs[i][e], expected[e], 1e-4) << "output " << i << ", element " << e;
    }
  }
};

TEST_P(Results, AnArgumentAlone) {
  Ran ran;
  run("func.func @f(%x: tensor<3x5xf32>) -> tensor<3x5xf32> { return %x : tensor<3x5xf32> }", {},
      ran);
  if (!HasFatalFailure())
    EXPECT_EQ(ran.outputs[0], ran.argument(0));
}

TEST_P(Results, WhatFoldsAway) {
  Ran ran;
  run(R"(
!t = tensor<3x5xf32>
func.func @f(%x: !t) -> (!t, !t, !t, !t) {
  %a = transformer.scale %x : !t
  %b = transformer.activation %x <relu> : !t
  %c = transformer.activation %b <relu> : !t
  return %a, %b, %c, %x : !t, !t, !t, !t
})",
      {}, ran);
  ASSERT_FALSE(HasFatalFailure());
  EXPECT_EQ(ran.outputs[0], ran.argument(0));
  EXPECT_EQ(ran.outputs[2], ran.outputs[1]);
  EXPECT_NE(ran.outputs[1], ran.outputs[0]);
  EXPECT_EQ(ran.outputs[3], ran.argument(0));
}

/// Weights row-major and packed, quantized, vectors, indices, tables, beside a cache that is
/// written, with sizes that follow the run, and constants that nobody needs.
TEST_P(Results, ArgumentsOfEveryKindBesideWork) {
  Ran ran;
  run(R"(
!rows = tensor<?x8xf32, #transformer.dims<"rows">>
!ids = tensor<?xi32, #transformer.dims<"rows">>
!table = tensor<?x?xi32, #transformer.dims<"sequences", "pages">>
!cache = !transformer.cache<1, 8, f32>
!starts = tensor<?xi32, #transformer.dims<"sequences">>
!w = tensor<8x8xbf16>
!q = tensor<3x32x!transformer.quant<q8_0>>
func.func @f(%n: index {transformer.size = #transformer.size<"rows", 1 to 9>},
    %s: index {transformer.size = #transformer.size<"sequences", 1 to 3>},
    %p: index {transformer.size = #transformer.size<"pages", 1 to 16>},
    %x: !rows, %w: !w {transformer.weight = "w"}, %q: !q, %v: tensor<5xf16>, %slots: !ids,
    %pos: !ids, %seq: !ids, %table: !table, %first: !starts, %len: !starts, %k: !cache)
    -> (!rows, !rows, !rows, !w, !q, tensor<5xf16>, !ids, !table, !w) {
  %c = arith.constant dense<1.0> : tensor<4xf32>
  %d = arith.addf %c, %c : tensor<4xf32>
  transformer.cache_append %x, %slots into %k : !cache, !rows, !ids
  %a = transformer.attention %x, %k, %k positions(%pos) sequences(%seq) table(%first) lengths(%len)
      {heads = 1 : i64, scale = 0.5 : f64}
      : (!rows, !cache, !cache, !ids, !ids, !starts, !starts)
      -> !rows
  %y = transformer.matmul %a weights(%w) : (!rows, !w) -> !rows
  return %y, %y, %x, %w, %q, %v, %slots, %table, %w
      : !rows, !rows, !rows, !w, !q, tensor<5xf16>, !ids, !table, !w
})",
      {{"rows", 7}, {"sequences", 2}, {"pages", 5}}, ran);
  ASSERT_FALSE(HasFatalFailure());
  ASSERT_EQ(ran.outputs.size(), 10u); // and the cache
  EXPECT_EQ(ran.outputs[1], ran.outputs[0]);
  for (auto [output, argument] : {std::pair(2, 0), {3, 1}, {4, 2}, {5, 3}, {6, 4}, {7, 7}, {8, 1}})
    EXPECT_EQ(ran.outputs[output], ran.argument(argument)) << output;
  EXPECT_EQ(ran.outputs[7].size(), 10u);
}

/// A weight that something else reads row-major, an input and a result are multiplied by, too.
TEST_P(Results, ProductsWithWhatHasNoLayout) {
  Ran ran;
  run(R"(
!x = tensor<5x7xf32>
!w = tensor<7x7xf32>
!p = tensor<7x7xf32, #transformer.layout<interleaved, rows = 16>>
func.func @f(%x: !x, %w: !w, %plain: !w, %i: !w {transformer.input = "i"})
    -> (!x, !x, tensor<5x5xf32>, !x, !x, !p) {
  %a = transformer.matmul %x weights(%w) : (!x, !w) -> !x
  %b = transformer.matmul %x weights(%w) {transpose} : (!x, !w) -> !x
  %c = transformer.matmul %a weights(%x) : (!x, !x) -> tensor<5x5xf32>
  %d = transformer.matmul %x weights(%i) : (!x, !w) -> !x
  %e = transformer.matmul %x weights(%plain) : (!x, !w) -> !x
  %p = transformer.pack %w : !w to !p
  return %a, %b, %c, %d, %e, %p : !x, !x, tensor<5x5xf32>, !x, !x, !p
})",
      {}, ran);
  ASSERT_FALSE(HasFatalFailure());
  EXPECT_EQ(ran.outputs[5].size(), 16u * 7) << "as it lies in memory: whole groups of rows";
}

/// The body of a kernel that a user wrote may fold to nothing.
TEST_P(Results, KernelsThatWouldFold) {
  Ran ran;
  run(R"(
!t = tensor<3x5xf32>
transformer.kernel @k(%x: !t) -> (!t, !t, !t) {
  %y = transformer.scale %x : !t
  transformer.yield %y, %y, %x : !t, !t, !t
}
func.func @f(%x: !t) -> (!t, !t, !t) {
  %y:3 = transformer.launch @k(%x) : (!t) -> (!t, !t, !t)
  return %y#2, %y#0, %y#1 : !t, !t, !t
})",
      {}, ran);
  ASSERT_FALSE(HasFatalFailure());
  for (const std::vector<float> &output : ran.outputs)
    EXPECT_EQ(output, ran.argument(0));
}

INSTANTIATE_TEST_SUITE_P(Targets, Results, testing::Values("Cpu", "Reference"),
                         [](const auto &info) { return info.param; });

TEST(PlainWeights, AreBoundAsWeights) {
  auto session = Session::create(TestDecoder::options()).value();
  auto module = parseModuleText(&session->context(), R"(
func.func @f(%x: tensor<2x3xf32>, %w: tensor<4x3xf32>) -> tensor<2x4xf32> {
  %y = transformer.matmul %x weights(%w) : (tensor<2x3xf32>, tensor<4x3xf32>) -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
})",
                                "test");
  ASSERT_TRUE(module);
  ASSERT_TRUE(session->compile(std::move(*module)));
  EXPECT_EQ(session->arguments("f"), (std::vector<std::string>{"arg0", "arg1"}));
  std::vector<float> x = {1, 2, 3, 4, 5, 6}, w = {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1}, y(8);
  ASSERT_TRUE(session->bind("arg0", std::as_writable_bytes(std::span(x))));
  ASSERT_TRUE(
      session->bind("arg1", std::as_writable_bytes(std::span(
                                w)))); // its bytes are not packed: they must not be taken for such
  const std::span<std::byte> result = std::as_writable_bytes(std::span(y));
  const Status refused = session->run("f", {}, {&result, 1});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().line(), HasSubstr("'arg1' is not bound"));
  EXPECT_THAT(refused.error().line(), HasSubstr("bindWeight"));
  ASSERT_TRUE(session->bindWeight("arg1", ElementType::F32, std::as_bytes(std::span(w))));
  ASSERT_TRUE(session->run("f", {}, {&result, 1}));
  EXPECT_EQ(y, (std::vector<float>{1, 2, 3, 6, 4, 5, 6, 15}));
}

} // namespace
