// A module may come from any stage, with schedules of the user's, and find its code in the cache.
#include "DecoderFixture.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/ObjectFile.h"
#include "kernelforge/codegen/cpu/ObjectEmitter.h"
#include "kernelforge/compiler/KernelCompiler.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/Planner.h"
#include "kernelforge/compiler/ProgramBuilder.h"
#include "kernelforge/compiler/Targets.h"

#include "mlir/Parser/Parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

using namespace kernelforge;
using testing::HasSubstr;
using transformer::KernelOp;

namespace {

/// A context that knows every stage.
std::unique_ptr<mlir::MLIRContext> makeContext() {
  mlir::DialectRegistry registry;
  registerAllStages(registry);
  return std::make_unique<mlir::MLIRContext>(registry);
}

/// A decoder's module brought to a stage, changed, and printed.
std::string textAt(
    const DecoderCase &decoder, Stage stage,
    llvm::function_ref<void(mlir::ModuleOp)> change = [](mlir::ModuleOp) {},
    const std::string &level = "native") {
  auto context = makeContext();
  auto module = TestDecoder::build(*context, decoder);
  PipelineOptions options{TestDecoder::options(level).target, 2, true, {}, {}};
  Status reached = runToStage(*module, stage, options);
  EXPECT_TRUE(reached) << reached.error().line();
  change(*module);
  return printModule(*module);
}

/// The kernel of @decode that gathers rows, norms them and multiplies with the head's weight.
KernelOp headKernel(mlir::ModuleOp module) {
  for (auto kernel : module.getOps<KernelOp>())
    if (kernel.getSymName().starts_with("decode.output"))
      return kernel;
  ADD_FAILURE() << "there is no such kernel";
  return {};
}

/// Pins the kernel's schedule, with one knob changed, and leaves its source to the planner.
void pin(KernelOp kernel, llvm::StringRef knob, int64_t value) {
  mlir::NamedAttrList knobs(kernel.getScheduleAttr().getKnobs());
  mlir::Builder builder(kernel.getContext());
  knobs.set(knob, builder.getI64IntegerAttr(value));
  kernel.setScheduleAttr(transformer::ScheduleAttr::get(kernel.getContext(),
                                                        knobs.getDictionary(kernel.getContext())));
  kernel.removeScheduleSourceAttr();
}

const Artifact *artifactNamed(const Session &session, const std::string &prefix) {
  for (const Artifact &artifact : session.program("decode")->artifacts)
    if (artifact.kernel.starts_with(prefix))
      return &artifact;
  return nullptr;
}

std::vector<float> converse(TestDecoder &decoder) {
  auto results = decoder.converse();
  if (results)
    return *results;
  ADD_FAILURE() << results.error().line();
  return {};
}

//===----------------------------------------------------------------------===//
// Stages
//===----------------------------------------------------------------------===//

class SessionStages : public testing::TestWithParam<std::string> {};

TEST_P(SessionStages, TextOfEveryStageGivesTheSameResults) {
  DecoderCase decoder = decoderCase(GetParam());
  auto direct = TestDecoder::create(decoder, TestDecoder::options());
  ASSERT_TRUE(direct) << direct.error().line();
  std::vector<float> expected = converse(**direct);
  ASSERT_FALSE(expected.empty());
  for (const char *name : {"transformer", "fused", "scheduled", "target", "llvm"}) {
    SCOPED_TRACE(name);
    std::string text = textAt(decoder, *parseStage(name, "cpu"));
    auto parsed = TestDecoder::create(decoder, TestDecoder::options(), text);
    ASSERT_TRUE(parsed) << parsed.error().line();
    EXPECT_EQ(converse(**parsed), expected);
    EXPECT_EQ((*parsed)->session().statistics().kernels, (*direct)->session().statistics().kernels);
  }
}

TEST_P(SessionStages, TheReferenceRunsEveryStage) {
  DecoderCase decoder = decoderCase(GetParam());
  SessionOptions options = TestDecoder::options();
  options.target = referenceTarget();
  auto direct = TestDecoder::create(decoder, options);
  ASSERT_TRUE(direct) << direct.error().line();
  std::vector<float> expected = converse(**direct);
  for (Stage stage : {Stage::Fused, Stage::Llvm}) {
    auto parsed = TestDecoder::create(decoder, options, textAt(decoder, stage));
    ASSERT_TRUE(parsed) << parsed.error().line();
    EXPECT_EQ(converse(**parsed), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Decoders, SessionStages,
                         testing::Values("LlamaInterleavedMixedTypes", "GptF32"),
                         [](const auto &info) { return info.param; });

TEST(SessionStages, CodeForAnotherTargetIsRefused) {
  DecoderCase decoder = decoderCase("LlamaHalfSplit");
  for (Stage stage : {Stage::Target, Stage::Llvm}) {
    std::string text = textAt(decoder, stage, [](mlir::ModuleOp) {}, "avx512");
    auto other = TestDecoder::create(decoder, TestDecoder::options("avx2"), text);
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().kind, ErrorKind::Unusable);
    EXPECT_THAT(other.error().line(), HasSubstr("x86-64-v4"));
    EXPECT_THAT(other.error().line(), HasSubstr("x86-64-v3"));
  }
  // A schedule is no code: it is taken over, and checked.
  std::string text = textAt(decoder, Stage::Scheduled, [](mlir::ModuleOp) {}, "avx2");
  auto other = TestDecoder::create(decoder, TestDecoder::options("native"), text);
  EXPECT_TRUE(other) << other.error().line();
}

//===----------------------------------------------------------------------===//
// Schedules
//===----------------------------------------------------------------------===//

TEST(SessionSchedules, PinnedOneIsKeptAndUsed) {
  DecoderCase decoder = decoderCase("LlamaHalfSplit");
  auto analytic = TestDecoder::create(decoder, TestDecoder::options());
  ASSERT_TRUE(analytic) << analytic.error().line();
  const Artifact *before = artifactNamed((*analytic)->session(), "decode.output");
  ASSERT_TRUE(before);
  EXPECT_EQ(before->scheduleSource, "analytic");

  for (Stage stage : {Stage::Fused, Stage::Scheduled}) {
    std::string json;
    std::string text = textAt(decoder, Stage::Scheduled, [&](mlir::ModuleOp module) {
      KernelOp kernel = headKernel(module);
      pin(kernel, "unroll", 3);
      json = scheduleJson(kernel);
      if (stage == Stage::Fused) // as a user writes it: the others have none
        for (auto other : module.getOps<KernelOp>())
          if (other != kernel) {
            other.removeScheduleAttr();
            other.removeScheduleSourceAttr();
          }
    });
    EXPECT_THAT(json, HasSubstr("\"unroll\":3"));
    auto pinned = TestDecoder::create(decoder, TestDecoder::options(), text);
    ASSERT_TRUE(pinned) << pinned.error().line();
    const Artifact *after = artifactNamed((*pinned)->session(), "decode.output");
    ASSERT_TRUE(after);
    EXPECT_EQ(after->scheduleSource, "pinned");
    EXPECT_EQ(after->schedule, json);
    EXPECT_NE(after->codeHash, before->codeHash);
    for (const Artifact &other : (*pinned)->session().program("decode")->artifacts)
      EXPECT_EQ(other.scheduleSource, &other == after ? "pinned" : "analytic") << other.kernel;
    EXPECT_LT(relativeDistance(converse(**pinned), converse(**analytic)), 1e-5);
    (*analytic)->reset();
  }
}

TEST(SessionSchedules, IllegalOneIsRefused) {
  DecoderCase decoder = decoderCase("LlamaHalfSplit");
  auto refusal = [&](const char *knob, int64_t value) {
    std::string text = textAt(decoder, Stage::Scheduled,
                              [&](mlir::ModuleOp module) { pin(headKernel(module), knob, value); });
    auto session = TestDecoder::create(decoder, TestDecoder::options(), text);
    return session ? std::string("none") : session.error().line();
  };
  std::string line = refusal("unroll", 17);
  EXPECT_THAT(line, HasSubstr("@decode.output"));
  EXPECT_THAT(line, HasSubstr("knob unroll"));
  EXPECT_THAT(line, HasSubstr("17"));
  EXPECT_THAT(line, HasSubstr("nearest legal value is 16"));
  EXPECT_THAT(refusal("kc", 1 << 30), HasSubstr("knob kc"));
  EXPECT_THAT(refusal("speed", 11), HasSubstr("no such knob"));
}

/// What a cold session refuses, a warm one must not take from the cache.
TEST(SessionSchedules, IllegalOneIsRefusedWithAWarmCacheToo) {
  TemporaryHome home;
  SessionOptions options = TestDecoder::options();
  options.cache = true;
  const std::string begin = R"(
transformer.kernel @k(%x: tensor<8x32xf32>) -> tensor<8x32xf32> attributes {
    schedule = #transformer.schedule<{)",
                    end = R"(}>} {
  %y = transformer.softmax %x : tensor<8x32xf32>
  transformer.yield %y : tensor<8x32xf32>
}
func.func @f(%x: tensor<8x32xf32>) -> tensor<8x32xf32> {
  %y = transformer.launch @k(%x) : (tensor<8x32xf32>) -> tensor<8x32xf32>
  return %y : tensor<8x32xf32>
})";
  auto compile = [&](const std::string &knobs) {
    auto session = Session::create(options).value();
    return session->compile(
        mlir::parseSourceString<mlir::ModuleOp>(begin + knobs + end, &session->context()));
  };
  EXPECT_TRUE(compile("rows_per_task = 2 : i64"));
  EXPECT_TRUE(compile("rows_per_task = 2 : i64"));
  for (const char *knobs :
       {"rows_per_task = 2 : i64, speed = 1.0 : f32", "rows_per_task = 2 : i64, speed = unit",
        "rows_per_task = 18446744073709551618 : i128", "rows_per_task = \"2\"",
        "rows_per_task = 0 : i64"}) {
    Status refused = compile(knobs);
    ASSERT_FALSE(refused) << knobs;
    EXPECT_THAT(refused.error().line(), HasSubstr("schedule is not legal")) << knobs;
  }
}

TEST(SessionSchedules, JsonReadsWhatItWrote) {
  auto context = makeContext();
  context->loadDialect<transformer::TransformerDialect>();
  auto read = scheduleFromJson(context.get(), R"({"nb": 32, "mr": -4})", "test");
  ASSERT_TRUE(read) << read.error().line();
  EXPECT_EQ(*read, scheduleAttr(context.get(), {{"mr", -4}, {"nb", 32}}));
  for (const char *bad : {"[]", "{\"mr\": 1.5}", "{\"mr\": \"4\"}", "{\"mr\": 1", "{\"mr\": null}",
                          "{\"mr\": 9223372036854775808}", "{\"mr\": 1, \"mr\": 2}"}) {
    auto refused = scheduleFromJson(context.get(), bad, "the test's schedule");
    ASSERT_FALSE(refused) << bad;
    EXPECT_THAT(refused.error().line(), HasSubstr("the test's schedule")) << bad;
  }
}

/// The same rows three times, by kernels of equal bodies of which a user scheduled two alike.
TEST(SessionSchedules, EqualBodiesMayHaveDifferentSchedules) {
  std::string text = R"(
!rows = tensor<8x32xf32>
transformer.kernel @a(%x: !rows) -> !rows attributes {
    schedule = #transformer.schedule<{rows_per_task = 1 : i64}>} {
  %y = transformer.softmax %x : !rows
  transformer.yield %y : !rows
}
transformer.kernel @b(%x: !rows) -> !rows attributes {
    schedule = #transformer.schedule<{rows_per_task = 4 : i64}>} {
  %y = transformer.softmax %x : !rows
  transformer.yield %y : !rows
}
transformer.kernel @c(%x: !rows) -> !rows attributes {
    schedule = #transformer.schedule<{rows_per_task = 4 : i64}>} {
  %y = transformer.softmax %x : !rows
  transformer.yield %y : !rows
}
func.func @f(%x: !rows) -> (!rows, !rows, !rows) {
  %a = transformer.launch @a(%x) : (!rows) -> !rows
  %b = transformer.launch @b(%x) : (!rows) -> !rows
  %c = transformer.launch @c(%x) : (!rows) -> !rows
  return %a, %b, %c : !rows, !rows, !rows
})";
  for (Stage stage : {Stage::Scheduled, Stage::Target, Stage::Llvm}) {
    SCOPED_TRACE(static_cast<int>(stage));
    auto session = Session::create(TestDecoder::options());
    ASSERT_TRUE(session);
    auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &(*session)->context());
    ASSERT_TRUE(module);
    PipelineOptions options{TestDecoder::options().target, 2, true, {}, {}};
    Status reached = runToStage(*module, stage, options);
    ASSERT_TRUE(reached) << reached.error().line();
    Status compiled = (*session)->compile(std::move(module));
    ASSERT_TRUE(compiled) << compiled.error().line();
    const Program &program = *(*session)->program("f");
    ASSERT_EQ(program.artifacts.size(), 2u);
    EXPECT_NE(program.artifacts[0].launching.phases[0].grid.evaluate(nullptr),
              program.artifacts[1].launching.phases[0].grid.evaluate(nullptr));
    std::vector<float> x(8 * 32, 1.0f), a(x.size()), b(x.size()), c(x.size());
    ASSERT_TRUE((*session)->bind("arg0", std::as_writable_bytes(std::span(x))));
    const std::span<std::byte> results[] = {std::as_writable_bytes(std::span(a)),
                                            std::as_writable_bytes(std::span(b)),
                                            std::as_writable_bytes(std::span(c))};
    ASSERT_TRUE((*session)->run("f", {}, results));
    EXPECT_EQ(a, std::vector<float>(x.size(), 1.0f / 32));
    EXPECT_EQ(b, a);
    EXPECT_EQ(c, a);
  }
}

//===----------------------------------------------------------------------===//
// Objects
//===----------------------------------------------------------------------===//

TEST(SessionCache, SecondSessionCompilesNothing) {
  TemporaryHome home;
  DecoderCase decoder = decoderCase("LlamaInterleavedMixedTypes");
  SessionOptions options = TestDecoder::options();
  options.cache = true;
  auto first = TestDecoder::create(decoder, options);
  ASSERT_TRUE(first) << first.error().line();
  const int kernels = (*first)->session().statistics().kernels;
  EXPECT_GT(kernels, 5);
  EXPECT_EQ((*first)->session().statistics().fromCache, 0);
  std::vector<float> expected = converse(**first);

  auto second = TestDecoder::create(decoder, options);
  ASSERT_TRUE(second) << second.error().line();
  EXPECT_EQ((*second)->session().statistics().kernels, kernels);
  EXPECT_EQ((*second)->session().statistics().fromCache, kernels);
  EXPECT_EQ(converse(**second), expected);
  for (const Artifact &artifact : (*second)->session().program("prefill")->artifacts) {
    EXPECT_TRUE(artifact.fromCache);
    EXPECT_EQ(artifact.compileSeconds, 0);
    EXPECT_EQ(artifact.scheduleSource, "analytic");
  }

  auto fromCache = [&](const SessionOptions &changed, const std::string &text = "") {
    auto session = TestDecoder::create(decoder, changed, text);
    EXPECT_TRUE(session) << session.error().line();
    return session ? (*session)->session().statistics().fromCache : -1;
  };
  std::string text = textAt(decoder, Stage::Scheduled,
                            [](mlir::ModuleOp module) { pin(headKernel(module), "prefetch", 3); });
  EXPECT_EQ(fromCache(options, text), kernels - 1) << "a schedule is part of the key";
  EXPECT_EQ(fromCache(options, text), kernels);
  // Code that came with the module is not taken from the cache; the kernels that pack weights are.
  std::set<std::string> launched;
  for (const char *function : {"prefill", "decode"})
    for (const Artifact &artifact : (*first)->session().program(function)->artifacts)
      launched.insert(artifact.kernel);
  EXPECT_EQ(fromCache(options, textAt(decoder, Stage::Target)),
            kernels - static_cast<int>(launched.size()));
  options.target = parseTarget("avx2", "").value();
  EXPECT_EQ(fromCache(options), 0) << "the target is part of the key";
  EXPECT_EQ(fromCache(options), kernels);
  options.cache = false;
  EXPECT_EQ(fromCache(options), 0);
}

TEST(SessionCache, NamesAreNoPartOfTheKey) {
  TemporaryHome home;
  SessionOptions options = TestDecoder::options();
  options.cache = true;
  DecoderCase decoder = decoderCase("LlamaHalfSplit");
  std::string text = textAt(decoder, Stage::Transformer);
  auto compile = [&](const std::string &module) {
    auto session = Session::create(options).value();
    Status compiled =
        session->compile(mlir::parseSourceString<mlir::ModuleOp>(module, &session->context()));
    EXPECT_TRUE(compiled) << compiled.error().line();
    return session->statistics();
  };
  CompileStatistics first = compile(text);
  text.replace(text.find("@decode"), 7, "@another_step");
  CompileStatistics second = compile(text);
  EXPECT_EQ(second.kernels, first.kernels);
  EXPECT_EQ(second.fromCache, first.kernels);
}

TEST(CompiledKernels, NeedNothingButMemcpyAndMemset) {
  for (const char *name : {"LlamaInterleavedMixedTypes", "GptF32", "WindowSoftcapOddHead",
                           "GptTiedTanhF16", "GptGatedReluBF16"})
    for (const std::string level : {"avx2", "skylake-avx512"}) {
      if (level != "avx2" && name != std::string("LlamaInterleavedMixedTypes"))
        continue; // one is enough to show it
      SCOPED_TRACE(name + (" for " + level));
      auto context = makeContext();
      auto module = TestDecoder::build(*context, decoderCase(name));
      Target target = parseTarget(level, "").value();
      KernelAnalyses analyses;
      ASSERT_TRUE(runToStage(*module, Stage::Scheduled, {target, 2, true, {}, {}}, analyses));
      auto artifacts = compileKernels(*module, target, ObjectCache::disabled(), analyses);
      ASSERT_TRUE(artifacts) << artifacts.error().line();
      // What a kernel is was found out once, for planner, emitter and cost.
      EXPECT_EQ(analyses.made(), int64_t(artifacts->size()));
      EXPECT_GT(artifacts->size(), 5u);
      std::set<std::string> entries;
      for (const Artifact &artifact : *artifacts) {
        EXPECT_TRUE(entries.insert(artifact.entry).second) << artifact.kernel;
        EXPECT_FALSE(artifact.launching.phases.empty()) << artifact.kernel;
        auto symbols = undefinedSymbols(artifact.code);
        ASSERT_TRUE(symbols) << symbols.error().line();
        for (const std::string &symbol : *symbols)
          EXPECT_TRUE(symbol == "memcpy" || symbol == "memset")
              << artifact.kernel << " needs " << symbol;
      }
    }
}

TEST(CompiledKernels, AreTheSameFromSeveralThreads) {
  for (const std::string &kind : targetKinds()) {
    SCOPED_TRACE(kind);
    const Target target = (*findGenerator(kind))->parse("", "", nullptr).value(); // any device's
    auto context = makeContext();
    auto module = TestDecoder::build(*context, decoderCase("LlamaInterleavedMixedTypes"));
    KernelAnalyses analyses;
    ASSERT_TRUE(runToStage(*module, Stage::Scheduled, {target, 2, true, {}, {}}, analyses));
    auto compile = [&](int threads) {
      auto made = compileKernels(*module, target, ObjectCache::disabled(), analyses, threads);
      EXPECT_TRUE(made) << made.error().line();
      return made.value_or(std::vector<Artifact>());
    };
    const std::vector<Artifact> one = compile(1), several = compile(3);
    EXPECT_GT(one.size(), 5U);
    ASSERT_EQ(one.size(), several.size());
    for (size_t i = 0; i < one.size(); ++i) {
      EXPECT_EQ(one[i].kernel, several[i].kernel);
      EXPECT_EQ(one[i].entry, several[i].entry);
      EXPECT_EQ(one[i].codeHash, several[i].codeHash) << one[i].kernel;
      EXPECT_EQ(one[i].sizeNames, several[i].sizeNames);
      EXPECT_EQ(one[i].schedule, several[i].schedule);
      EXPECT_EQ(one[i].launching.phases.size(), several[i].launching.phases.size());
    }
  }
}

TEST(CompiledKernels, AreAllButAProgramHoldsThoseItLaunches) {
  auto context = makeContext();
  auto module = mlir::parseSourceString<mlir::ModuleOp>(R"(
!rows = tensor<8x32xf32>
transformer.kernel @unused(%x: !rows) -> !rows {
  %y = transformer.softmax %x : !rows
  transformer.yield %y : !rows
}
func.func @f(%x: !rows) -> !rows {
  %y = transformer.add %x, %x : !rows
  return %y : !rows
})",
                                                        context.get());
  ASSERT_TRUE(module);
  Target target = parseTarget("native", "").value();
  KernelAnalyses analyses;
  ASSERT_TRUE(runToStage(*module, Stage::Scheduled, {target, 1, true, {}, {}}, analyses));
  auto artifacts = compileKernels(*module, target, ObjectCache::disabled(), analyses);
  ASSERT_TRUE(artifacts) << artifacts.error().line();
  ASSERT_EQ(artifacts->size(), 2u);
  auto program = buildProgram(module->lookupSymbol<mlir::func::FuncOp>("f"), *artifacts);
  ASSERT_TRUE(program) << program.error().line();
  ASSERT_EQ(program->artifacts.size(), 1u);
  EXPECT_EQ(program->artifacts.front().kernel, "f_add");
}

} // namespace
