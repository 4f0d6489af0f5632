// A program file in which a library runs a kernel: it is resolved where the file is run.
#include "kernelforge/compiler/KernelCompiler.h"
#include "kernelforge/compiler/MatmulModule.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/measure/Accuracy.h"
#include "kernelforge/problem/ProgramRun.h"
#include "kernelforge/problem/Verification.h"

#include <gmock/gmock.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;
using testing::HasSubstr;

namespace {

/// A file of a matmul with weights of `type` that `variant` runs.
ProgramFile makeFile(const char *variant, ElementType type) {
  DialectRegistry registry;
  registerAllStages(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  const MatmulProblem problem{
      .m = 9,
      .n = 24,
      .k = 64,
      .weights = type,
      .epilogue = {EpilogueStep::Bias, EpilogueStep::Silu, EpilogueStep::Residual}};
  auto module = buildMatmulModule(&context, problem).value();
  std::string text;
  llvm::raw_string_ostream(text) << *module;
  const FunctionSignature signature = readSignature(*findFunction(*module, "")).value();
  const SizeValues sizes = chooseSizes(signature, {{"rows", 7}}).value();
  const FunctionData data = randomData(signature, sizes, 3).value();
  const auto expected = runReference(*module, signature, data).value();
  PipelineOptions pipeline;
  pipeline.target = parseTarget("cpu", "native", "").value();
  EXPECT_TRUE(runToStage(*module, Stage::Fused, pipeline));
  for (auto kernel : module->getOps<KernelOp>())
    kernel.setVariant(variant);
  const Status scheduled = runToStage(*module, Stage::Scheduled, pipeline);
  EXPECT_TRUE(scheduled) << scheduled.error().line();
  KernelAnalyses analyses;
  const auto artifacts =
      compileKernels(*module, pipeline.target, ObjectCache::disabled(), analyses).value();
  ProgramFile file =
      makeProgramFile(*module, signature, artifacts, pipeline.target, data, 3, expected).value();
  file.module = text;
  return file;
}

TEST(LibraryProgram, RunsFromAFileAsTheReferenceSays) {
  for (const char *variant : {"blocked", "parallel"})
    for (ElementType type : {ElementType::F32, ElementType::Q4_1}) {
      SCOPED_TRACE(variant);
      const std::string bytes = writeProgramFile(makeFile(variant, type));
      auto file = readProgramFile(bytes, "a.kfp");
      ASSERT_TRUE(file) << file.error().line();
      ASSERT_EQ(file->program.artifacts.size(), 1u);
      EXPECT_EQ(file->program.artifacts[0].variant, variant);
      ASSERT_TRUE(file->program.artifacts[0].library);
      EXPECT_EQ(file->program.artifacts[0].library->problem.weights, type);
      EXPECT_EQ(writeProgramFile(*file), bytes);

      auto run = ProgramRun::create(std::move(*file), {.threads = 2});
      ASSERT_TRUE(run) << run.error().line();
      ASSERT_TRUE((*run)->bind(dataOf((*run)->file(), (*run)->signature()).value()));
      const Status status = (*run)->run(nullptr);
      ASSERT_TRUE(status) << status.error().line();
      const auto expected = expectedOf((*run)->file(), (*run)->signature(), (*run)->data()).value();
      const auto outputs = outputsOf((*run)->signature(), (*run)->data());
      EXPECT_TRUE(compareValues(outputs[0]->toFloats(), expected[0].toFloats(), 1e-5).pass);
    }
}

TEST(LibraryProgram, AVariantThatIsNotHereIsRefusedWithItsName) {
  ProgramFile file = makeFile("blocked", ElementType::F32);
  file.program.artifacts[0].variant = "vendor:abacus";
  auto read = readProgramFile(writeProgramFile(file), "a.kfp");
  ASSERT_TRUE(read) << read.error().line();
  const auto run = ProgramRun::create(std::move(*read), {.threads = 2});
  ASSERT_FALSE(run);
  EXPECT_THAT(run.error().line(),
              AllOf(HasSubstr("vendor:abacus"), HasSubstr(file.program.artifacts[0].kernel)));
}

} // namespace
