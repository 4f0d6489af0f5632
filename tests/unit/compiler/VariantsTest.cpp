// Kernels that another variant than generated runs: which of them may be, when the planner chooses
// one, and that the results are the same.
#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/compiler/LibraryKernels.h"
#include "kernelforge/compiler/MatmulModule.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/RecordKeys.h"
#include "kernelforge/compiler/Session.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/kernels/MatmulRegistry.h"
#include "kernelforge/problem/GeneratedMatmul.h"
#include "kernelforge/problem/MatmulChoice.h"
#include "kernelforge/support/CounterRandom.h"

#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"

#include <filesystem>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using namespace kernelforge::transformer;
using mlir::MLIRContext;
using mlir::ModuleOp;
using mlir::OwningOpRef;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

namespace {

constexpr int threadCount = 2;

/// A variant that counts how often it was prepared and keeps a copy of the weight, as a library
/// with a layout of its own does.
class CopyingMatmul final : public MatmulKernel {
public:
  static int prepared;

  std::string_view name() const override { return "test:copying"; }
  MatmulSupport supports(const MatmulProblem &problem) const override {
    return problem.weights == ElementType::F32 ? MatmulSupport::ok()
                                               : MatmulSupport::unsupported("f32 only");
  }

private:
  struct Prepared final : PreparedMatmul {
    std::vector<std::byte> weight;
    std::unique_ptr<PreparedMatmul> matmul;
    Status run(const float *input, float *output) override { return matmul->run(input, output); }
  };

  Expected<std::unique_ptr<PreparedMatmul>> make(const MatmulProblem &problem,
                                                 const MatmulOperands &operands, const KnobValues &,
                                                 int threads) const override {
    ++prepared;
    auto copy = std::make_unique<Prepared>();
    copy->weight.assign(operands.weight, operands.weight + 4 * problem.n * problem.k);
    KF_TRY(const MatmulKernel *blocked, MatmulRegistry::global().find("blocked"));
    KF_TRY(copy->matmul,
           blocked->prepare(problem, {copy->weight.data(), operands.bias, operands.residual},
                            {threads, ""}));
    return copy;
  }
};
int CopyingMatmul::prepared = 0;
const RegisterMatmul<CopyingMatmul> addedCopying;

class Variants : public testing::Test {
protected:
  Variants() : context(MLIRContext::Threading::DISABLED), store(folder()) {
    loadAllStages(&context);
    target = parseTarget("native", "").value();
  }
  ~Variants() override { std::filesystem::remove_all(store.folder()); }

  static std::filesystem::path folder() {
    std::string name = testing::TempDir() + "variants-XXXXXX";
    return ::mkdtemp(name.data());
  }

  PipelineOptions pipeline() const { return {target, threadCount, true, {}, store}; }

  OwningOpRef<ModuleOp> parse(const std::string &text) {
    auto module = mlir::parseSourceString<ModuleOp>(text, &context);
    EXPECT_TRUE(module);
    return module;
  }

  OwningOpRef<ModuleOp> fused(OwningOpRef<ModuleOp> module) {
    const Status status = runToStage(*module, Stage::Fused, pipeline());
    EXPECT_TRUE(status) << status.error().line();
    return module;
  }

  OwningOpRef<ModuleOp> fused(const MatmulProblem &problem) {
    return fused(std::move(buildMatmulModule(&context, problem).value()));
  }

  /// The records say that `variant` takes `ratio` of the time of generated code.
  void won(const RecordKey &key, const std::string &variant, double ratio) {
    Record record;
    record.key = key;
    record.variant = variant;
    record.samplesNs = {100 * ratio};
    record.baselineNs = {100};
    record.baseline = "schedule {}";
    record.ratio = ratio;
    record.accuracy = RecordAccuracy{"f64", 0, 0, 0, 0, 0, 0, 1e-5, true};
    const Status kept = store.append(record);
    ASSERT_TRUE(kept) << kept.error().line();
  }

  void won(const MatmulProblem &problem, const std::string &variant, double ratio) {
    won(matmulKey(problem, target, threadCount).value(), variant, ratio);
  }

  std::unique_ptr<Session> session(bool reference = false) {
    SessionOptions options;
    options.target = reference ? referenceTarget() : target;
    options.threads = threadCount;
    options.cache = false;
    options.records = store;
    options.poison = true;
    return std::move(Session::create(options).value());
  }

  MLIRContext context;
  Target target;
  RecordStore store;
};

std::vector<float> randomFloats(int64_t count, uint64_t stream) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(2 * randomUniform(mixBits(7) + stream, i) - 1);
  return values;
}

/// Operands of a problem, and its result by a session.
struct Operands {
  explicit Operands(const MatmulProblem &problem)
      : problem(problem), x(randomFloats(problem.m * problem.k, 1)),
        bias(randomFloats(problem.n, 2)), residual(randomFloats(problem.m * problem.n, 3)) {
    const int64_t rows = problem.transpose ? problem.k : problem.n;
    const int64_t width = problem.transpose ? problem.n : problem.k;
    const uint64_t bytes = *rowBytes(problem.weights, static_cast<uint64_t>(width));
    weight.resize(bytes * static_cast<uint64_t>(rows));
    for (int64_t i = 0; i < rows; ++i) {
      const std::vector<float> row = randomFloats(width, 100 + static_cast<uint64_t>(i));
      quantizeRow(problem.weights, row.data(), row.size(),
                  weight.data() + bytes * static_cast<uint64_t>(i));
    }
  }

  void bind(Session &session) {
    const Status bound = session.bindWeight("weight", problem.weights, weight);
    ASSERT_TRUE(bound) << bound.error().line();
    EXPECT_TRUE(session.bind("x", std::as_writable_bytes(std::span(x))));
    EXPECT_TRUE(session.bind("bias", std::as_writable_bytes(std::span(bias))));
    EXPECT_TRUE(session.bind("residual", std::as_writable_bytes(std::span(residual))));
  }

  std::vector<float> run(Session &session, int64_t rows) const {
    std::vector<float> out(static_cast<size_t>(rows * problem.n));
    const std::span<std::byte> result = std::as_writable_bytes(std::span(out));
    const Status status = session.run("matmul", {&rows, 1}, {&result, 1});
    EXPECT_TRUE(status) << status.error().line();
    return out;
  }

  MatmulProblem problem;
  std::vector<float> x, bias, residual;
  std::vector<std::byte> weight;
};

void expectNear(const std::vector<float> &a, const std::vector<float> &b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    ASSERT_NEAR(a[i], b[i], 2e-5 * (10 + std::abs(b[i]))) << i;
}

const std::vector<EpilogueStep> biasSiluResidual = {EpilogueStep::Bias, EpilogueStep::Silu,
                                                    EpilogueStep::Residual};

//===----------------------------------------------------------------------===//
// Which kernels are library calls
//===----------------------------------------------------------------------===//

TEST_F(Variants, LibraryCallIsTheInverseOfBuilding) {
  using enum EpilogueStep;
  const std::vector<MatmulProblem> problems = {
      {1, 3, 5},
      {33, 17, 64, ElementType::F32, true},
      {7, 48, 64, ElementType::Q4_1},
      {512, 48, 64, ElementType::F16, false, {Bias}},
      {9, 16, 16, ElementType::F32, false, {Residual}},
      {9, 16, 16, ElementType::F32, false, {GeluTanh}},
      {5, 16, 16, ElementType::F32, false, {Residual, Relu}},
      {5, 16, 16, ElementType::BF16, false, biasSiluResidual}};
  for (const MatmulProblem &problem : problems) {
    SCOPED_TRACE(problem.name());
    auto module = fused(problem);
    KernelOp kernel = *module->getOps<KernelOp>().begin();
    const auto found = libraryCall(kernel);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->problem.name(), problem.name());
    EXPECT_EQ(found->rowsSize, 0);
    EXPECT_EQ(found->bias.has_value(), problem.has(Bias));
    EXPECT_EQ(found->residual.has_value(), problem.has(Residual));
    const auto weight =
        mlir::cast<mlir::RankedTensorType>(kernel.getArgumentTypes()[found->weight]);
    EXPECT_TRUE(recordKey(*buildMatmulKernel(found->problem, weight), target, threadCount) ==
                matmulKey(problem, target, threadCount).value());
  }
}

const std::string rows = "tensor<?x64xf32, #transformer.dims<\"rows\">>";

/// A function of rows of 64 with the weight @w and a body that gives %y.
std::string function(const std::string &name, const std::string &range, const std::string &body,
                     const std::string &more = "") {
  return "func.func @" + name + "(%n: index {transformer.size = #transformer.size<\"rows\", " +
         range + ">}, %x: " + rows +
         " {transformer.input = \"x\"}, %w: tensor<64x64xf32> {transformer.weight = \"w\"}" + more +
         ") -> " + rows + " {\n" + body + "  return %y : " + rows + "\n}\n";
}

std::string matmul(const std::string &result, const std::string &input,
                   const std::string &weight = "w") {
  return "  %" + result + " = transformer.matmul %" + input + " weights(%" + weight + ") : (" +
         rows + ", tensor<64x64xf32>) -> " + rows + "\n";
}

TEST_F(Variants, MoreThanAMatmulIsNoLibraryCall) {
  for (const std::string &body :
       {matmul("z", "x") + "  %y = transformer.scale %z {factor = 2.0 : f64} : " + rows + "\n",
        matmul("z", "x") + "  %y = transformer.mul %z, %x : " + rows + "\n",
        matmul("z", "x") + "  %y = transformer.add %z, %z : " + rows + "\n",
        matmul("z", "x") + "  %v = transformer.add %z, %x : " + rows +
            "\n  %y = transformer.add %v, %x : " + rows + "\n",
        std::string("  %y = transformer.softmax %x : ") + rows + "\n"}) {
    SCOPED_TRACE(body);
    auto module = fused(parse(function("f", "2 to 9", body)));
    ASSERT_TRUE(module);
    for (auto kernel : module->getOps<KernelOp>())
      EXPECT_FALSE(libraryCall(kernel));
  }
}

TEST_F(Variants, NarrowRowsAreNoLibraryCall) {
  // Input, bias and result; libraries are called with f32.
  const std::vector<std::string> f32{"f32", "f32", "f32"};
  for (size_t narrow = 0; narrow <= f32.size(); ++narrow)
    for (const char *type : {"f16", "bf16"}) {
      std::vector<std::string> types = f32;
      if (narrow < types.size())
        types[narrow] = type;
      const std::string text = fmt::format(
          "transformer.kernel @k(%x: tensor<5x8x{0}>, %w: tensor<8x8xf32>, %b: tensor<8x{1}>) -> "
          "tensor<5x8x{2}> {{\n"
          "  %y = transformer.matmul %x weights(%w) bias(%b) : (tensor<5x8x{0}>, tensor<8x8xf32>, "
          "tensor<8x{1}>) -> tensor<5x8x{2}>\n"
          "  transformer.yield %y : tensor<5x8x{2}>\n}}",
          types[0], types[1], types[2]);
      auto module = parse(text);
      ASSERT_TRUE(module);
      EXPECT_EQ(libraryCall(*module->getOps<KernelOp>().begin()).has_value(), narrow == f32.size())
          << text;
    }
}

//===----------------------------------------------------------------------===//
// What the planner chooses
//===----------------------------------------------------------------------===//

TEST_F(Variants, RecordsOfAProblemAreForKernelsOfOtherNamesAndOrder) {
  const MatmulProblem problem{9, 64, 64, ElementType::F32, false, {EpilogueStep::Residual}};
  const std::string tokens = "tensor<?x64xf32, #transformer.dims<\"tokens\">>";
  auto module = fused(parse(
      "func.func @f(%t: index {transformer.size = #transformer.size<\"tokens\", 2 to 9>}, %r: " +
      tokens + ", %w: tensor<64x64xf32> {transformer.weight = \"down\"}, %x: " + tokens + ") -> " +
      tokens + " {\n  %z = transformer.matmul %x weights(%w) : (" + tokens +
      ", tensor<64x64xf32>) -> " + tokens + "\n  %y = transformer.add %r, %z : " + tokens +
      "\n  return %y : " + tokens + "\n}\n"));
  ASSERT_TRUE(module);
  KernelOp kernel = *module->getOps<KernelOp>().begin();
  EXPECT_FALSE(recordKey(kernel, target, threadCount) ==
               matmulKey(problem, target, threadCount).value());
  won(problem, "blocked", 0.5);
  ASSERT_TRUE(runToStage(*module, Stage::Scheduled, pipeline()));
  EXPECT_EQ(kernel.getVariant(), "blocked");
}

TEST_F(Variants, WinnerRunsTheKernelWithTheSameResult) {
  using enum EpilogueStep;
  for (const MatmulProblem &problem :
       {MatmulProblem{33, 17, 41, ElementType::F32, false, biasSiluResidual},
        MatmulProblem{1, 19, 64, ElementType::F32, false, {Residual}},
        MatmulProblem{13, 48, 37, ElementType::F32, true, {Bias, Gelu}},
        MatmulProblem{21, 35, 96, ElementType::Q4_1, false, {Residual, Relu}}}) {
    SCOPED_TRACE(problem.name());
    Operands operands(problem);
    auto reference = session(/*reference=*/true);
    ASSERT_TRUE(reference->compile(std::move(*buildMatmulModule(&reference->context(), problem))));
    operands.bind(*reference);
    for (const char *variant : {"blocked", "parallel"}) {
      won(problem, variant, variant == std::string("blocked") ? 0.9 : 0.5);
      auto session = this->session();
      const Status compiled =
          session->compile(std::move(*buildMatmulModule(&session->context(), problem)));
      ASSERT_TRUE(compiled) << compiled.error().line();
      const Artifact &artifact = session->program("matmul")->artifacts.front();
      EXPECT_EQ(artifact.variant, variant);
      EXPECT_EQ(artifact.scheduleSource, "record");
      EXPECT_TRUE(artifact.library);
      EXPECT_TRUE(artifact.code.empty());
      EXPECT_EQ(session->statistics().variants.at(variant), 1);
      EXPECT_EQ(session->packedBytes(), 0);
      operands.bind(*session);
      for (int64_t rows : {problem.m, std::min<int64_t>(problem.m, 2), problem.m}) {
        const std::vector<float> result = operands.run(*session, rows);
        expectNear(result, operands.run(*reference, rows));
      }
    }
  }
}

TEST_F(Variants, GeneratedVariantIsGeneratedWhateverWon) {
  const MatmulProblem problem{8, 16, 32};
  won(problem, "blocked", 0.5);
  Operands operands(problem);
  SessionOptions options;
  options.target = target;
  options.records = store;
  options.cache = false;
  auto prepared =
      GeneratedMatmul(options).prepare(problem, {operands.weight.data()}, {threadCount, ""});
  ASSERT_TRUE(prepared) << prepared.error().line();
  EXPECT_NE((*prepared)->details.codeHash, "");
}

TEST_F(Variants, WhatIsNotHereIsPassedOver) {
  const MatmulProblem problem{8, 16, 32};
  won(problem, "vendor:nowhere", 0.2);
  won(problem, "parallel", 0.5);
  won(problem, "blocked", 0.8);
  auto module = fused(problem);
  ASSERT_TRUE(runToStage(*module, Stage::Scheduled, pipeline()));
  KernelOp kernel = *module->getOps<KernelOp>().begin();
  EXPECT_EQ(kernel.getVariant(), "parallel");
  EXPECT_EQ(kernel.getScheduleSource(), "record");
  EXPECT_THAT(kernel.getScheduleReason()->str(), HasSubstr("of what can run here"));

  const MatmulProblem other{8, 16, 48};
  won(other, "vendor:nowhere", 0.2);
  module = fused(other);
  ASSERT_TRUE(runToStage(*module, Stage::Scheduled, pipeline()));
  EXPECT_TRUE((*module->getOps<KernelOp>().begin()).isGenerated());
}

/// Two functions that read the weight: a kernel each.
std::string twoFunctions() {
  return function("many", "2 to 9", matmul("y", "x")) + function("one", "1 to 1", matmul("y", "x"));
}

TEST_F(Variants, WeightThatAnotherReadsPackedStaysPacked) {
  won({9, 64, 64}, "blocked", 0.5);
  auto module = fused(parse(twoFunctions()));
  ASSERT_TRUE(runToStage(*module, Stage::Scheduled, pipeline()));
  for (auto kernel : module->getOps<KernelOp>()) {
    EXPECT_TRUE(kernel.isGenerated());
    if (kernel.getSymName() == "many_matmul")
      EXPECT_THAT(
          kernel.getScheduleReason()->str(),
          AllOf(HasSubstr("blocked won"), HasSubstr("@one_matmul reads weight 'w' packed")));
  }
  // With a variant for all readers, nobody needs it packed.
  won({1, 64, 64}, "parallel", 0.5);
  module = fused(parse(twoFunctions()));
  ASSERT_TRUE(runToStage(*module, Stage::Scheduled, pipeline()));
  std::vector<std::string> variants;
  for (auto kernel : module->getOps<KernelOp>())
    variants.push_back(kernel.getVariant().value_or("").str());
  EXPECT_THAT(variants, ElementsAre("blocked", "parallel"));
  for (auto function : module->getOps<mlir::func::FuncOp>())
    for (mlir::Type type : function.getArgumentTypes())
      EXPECT_FALSE(layoutOf(type));
  EXPECT_TRUE(mlir::succeeded(mlir::verify(*module)));
}

TEST_F(Variants, KernelWithAPrologueIsGenerated) {
  const std::string norm = "  %z = transformer.rms_norm %x, %g {epsilon = 1.0e-5} : (" + rows +
                           ", tensor<64xf32>) -> " + rows + "\n";
  auto module = fused(parse(function("f", "2 to 9", norm + matmul("y", "z"),
                                     ", %g: tensor<64xf32> {transformer.weight = \"g\"}")));
  ASSERT_TRUE(module);
  KernelOp kernel = *module->getOps<KernelOp>().begin();
  won(recordKey(kernel, target, threadCount), "blocked", 0.5);
  won({9, 64, 64}, "blocked", 0.5);
  EXPECT_FALSE(libraryCall(kernel));
  ASSERT_TRUE(runToStage(*module, Stage::Scheduled, pipeline()));
  EXPECT_TRUE(kernel.isGenerated());
  kernel.removeScheduleAttr();
  kernel.setVariant("blocked");
  const Status pinned = runToStage(*module, Stage::Scheduled, pipeline());
  ASSERT_FALSE(pinned);
  EXPECT_THAT(pinned.error().line(), HasSubstr("more than one matmul"));
}

TEST_F(Variants, PinnedOneIsTakenOrRefused) {
  auto schedule = [&](const std::string &variant, const MatmulProblem &problem) {
    auto module = fused(problem);
    KernelOp kernel = *module->getOps<KernelOp>().begin();
    kernel.setVariant(variant);
    const Status status = runToStage(*module, Stage::Scheduled, pipeline());
    if (!status)
      return status.error().line();
    // What was printed says it all: the next one takes it as it is.
    const Status again = runToStage(*module, Stage::Llvm, pipeline());
    EXPECT_TRUE(again) << again.error().line();
    EXPECT_FALSE(kernel.getCode());
    EXPECT_FALSE(layoutOf(kernel.getArgumentTypes()[2]));
    return kernel.getVariant()->str() + " " + kernel.getScheduleSource()->str();
  };
  EXPECT_EQ(schedule("blocked", {8, 16, 32}), "blocked pinned");
  EXPECT_THAT(
      schedule("blokced", {8, 16, 32}),
      AllOf(HasSubstr("@matmul_matmul, variant 'blokced'"), HasSubstr("there are reference")));
  EXPECT_THAT(schedule("test:copying", {8, 16, 32, ElementType::F16}), HasSubstr("f32 only"));

  auto module = fused(parse(twoFunctions()));
  (*module->getOps<KernelOp>().begin()).setVariant("blocked");
  const Status shared = runToStage(*module, Stage::Scheduled, pipeline());
  ASSERT_FALSE(shared);
  EXPECT_EQ(shared.error().kind, ErrorKind::Unusable);
  EXPECT_THAT(shared.error().line(), HasSubstr("reads weight 'w' packed"));
}

TEST_F(Variants, AssemblySaysThatThereIsNone) {
  const MatmulProblem problem{8, 16, 32};
  won(problem, "blocked", 0.5);
  auto module = fused(problem);
  ASSERT_TRUE(runToStage(*module, Stage::Scheduled, pipeline()));
  const auto text = printCode(*module, pipeline());
  ASSERT_TRUE(text) << text.error().line();
  EXPECT_THAT(*text, AllOf(HasSubstr("# run by blocked"), Not(HasSubstr("ret"))));
}

//===----------------------------------------------------------------------===//
// What is kept between runs
//===----------------------------------------------------------------------===//

TEST_F(Variants, IsPreparedOncePerWeight) {
  won({9, 64, 64}, "test:copying", 0.5);
  const std::string text = function("f", "2 to 9", matmul("z", "x") + matmul("y", "z", "v"),
                                    ", %v: tensor<64x64xf32> {transformer.weight = \"v\"}");
  auto session = this->session(), reference = this->session(/*reference=*/true);
  std::vector<float> x = randomFloats(9 * 64, 1), w = randomFloats(64 * 64, 2),
                     v = randomFloats(64 * 64, 3);
  auto bytes = [](const std::vector<float> &values) { return std::as_bytes(std::span(values)); };
  for (Session *one : {session.get(), reference.get()}) {
    auto module = mlir::parseSourceString<ModuleOp>(text, &one->context());
    ASSERT_TRUE(module);
    const Status compiled = one->compile(std::move(module));
    ASSERT_TRUE(compiled) << compiled.error().line();
    ASSERT_TRUE(one->bindWeight("w", ElementType::F32, bytes(w)));
    ASSERT_TRUE(one->bindWeight("v", ElementType::F32, bytes(v)));
    EXPECT_TRUE(one->bind("x", std::as_writable_bytes(std::span(x))));
  }
  auto run = [&](Session &one, int64_t rows) {
    std::vector<float> out(static_cast<size_t>(rows) * 64);
    const std::span<std::byte> result = std::as_writable_bytes(std::span(out));
    const Status status = one.run("f", {&rows, 1}, {&result, 1});
    EXPECT_TRUE(status) << status.error().line();
    return out;
  };
  CopyingMatmul::prepared = 0;
  for (int i = 0; i < 3; ++i)
    expectNear(run(*session, 9), run(*reference, 9));
  EXPECT_EQ(CopyingMatmul::prepared, 2);
  expectNear(run(*session, 4), run(*reference, 4));
  EXPECT_EQ(CopyingMatmul::prepared, 4) << "other rows";
  // The same memory with another weight.
  w = randomFloats(64 * 64, 4);
  for (Session *one : {session.get(), reference.get()})
    ASSERT_TRUE(one->bindWeight("w", ElementType::F32, bytes(w)));
  expectNear(run(*session, 4), run(*reference, 4));

  std::vector<int64_t> nanoseconds;
  RunOptions options;
  options.launchNanoseconds = &nanoseconds;
  std::vector<float> out(4 * 64);
  const std::span<std::byte> result = std::as_writable_bytes(std::span(out));
  const int64_t four = 4;
  ASSERT_TRUE(session->run("f", {&four, 1}, {&result, 1}, options));
  ASSERT_EQ(nanoseconds.size(), 2u);
  EXPECT_GT(nanoseconds[0], 0);
  EXPECT_GT(nanoseconds[1], 0);
}

} // namespace
