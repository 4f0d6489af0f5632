// The compiler's stages: each is a module that prints and parses, small enough to be read.
#include "DecoderFixture.h"

#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/compiler/DumpPasses.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/ir/Transformer.h"

#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"

#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <iterator>
#include <set>
#include <sstream>

using namespace kernelforge;
using testing::HasSubstr;
using testing::Not;
using transformer::KernelOp;

namespace {

constexpr Stage moduleStages[] = {Stage::Transformer, Stage::Fused, Stage::Scheduled, Stage::Target,
                                  Stage::Llvm};

class Pipelines : public testing::Test {
protected:
  Pipelines() { registerAllStages(registry), context.appendDialectRegistry(registry); }

  mlir::OwningOpRef<mlir::ModuleOp> parse(const std::string &text) {
    return mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  }
  PipelineOptions options(const std::string &cpu = "native") {
    return {parseTarget(cpu, "").value(), 2, true, {}, {}};
  }
  void expectReached(mlir::ModuleOp module, Stage stage, const PipelineOptions &options) {
    Status reached = runToStage(module, stage, options);
    ASSERT_TRUE(reached) << reached.error().line();
  }

  mlir::DialectRegistry registry;
  mlir::MLIRContext context;
};

TEST_F(Pipelines, EveryStageVerifiesPrintsAndParsesAgain) {
  std::vector<std::pair<std::string, mlir::OwningOpRef<mlir::ModuleOp>>> modules;
  for (const DecoderCase &decoder : decoderCases())
    modules.emplace_back(decoder.name, TestDecoder::build(context, decoder));
  modules.emplace_back("Matmul", buildMatmul(&context, 1, 64, 96, 64, ElementType::Q4_0));
  for (auto &[name, module] : modules) {
    SCOPED_TRACE(name);
    // One stage after the other, each from the text of the one before.
    for (Stage stage : moduleStages) {
      SCOPED_TRACE(static_cast<int>(stage));
      expectReached(*module, stage, options());
      EXPECT_TRUE(mlir::succeeded(mlir::verify(*module)));
      std::string text = printModule(*module);
      module = parse(text);
      ASSERT_TRUE(module);
      EXPECT_EQ(printModule(*module), text);
      for (auto kernel : module->getOps<KernelOp>()) {
        EXPECT_EQ(bool(kernel.getSchedule()), stage >= Stage::Scheduled);
        EXPECT_EQ(bool(kernel.getCode()), stage >= Stage::Target);
      }
    }
    // Each kernel has code of its own.
    EXPECT_GE(llvm::range_size(module->getOps<mlir::LLVM::LLVMFuncOp>()),
              llvm::range_size(module->getOps<KernelOp>()));
    // Where it is already, nothing happens.
    std::string text = printModule(*module);
    expectReached(*module, Stage::Fused, options());
    EXPECT_EQ(printModule(*module), text);
  }
}

TEST_F(Pipelines, StageByStageEqualsAtOnce) {
  DecoderCase decoder = decoderCase("LlamaInterleavedMixedTypes");
  auto module = TestDecoder::build(context, decoder);
  for (Stage stage : {Stage::Fused, Stage::Scheduled, Stage::Target}) {
    expectReached(*module, stage, options());
    auto atOnce = TestDecoder::build(context, decoder);
    expectReached(*atOnce, stage, options());
    EXPECT_EQ(printModule(*module), printModule(*atOnce));
  }
}

TEST_F(Pipelines, TargetIsOnTheModule) {
  auto module = TestDecoder::build(context, decoderCase("LlamaHalfSplit"));
  expectReached(*module, Stage::Fused, options("haswell"));
  auto target = (*module)->getAttrOfType<transformer::TargetAttr>(targetAttrName);
  ASSERT_TRUE(target);
  EXPECT_EQ(target.getCpu(), "haswell");
  EXPECT_EQ(target.getThreads(), 2);
}

TEST_F(Pipelines, ParseStage) {
  EXPECT_EQ(parseStage("fused", "cpu").value(), Stage::Fused);
  EXPECT_EQ(parseStage("asm", "cpu").value(), Stage::Text);
  for (const char *bad : {"", "Fused", "ptx", "fused "}) {
    auto refused = parseStage(bad, "cpu");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Unusable);
    EXPECT_THAT(refused.error().line(), HasSubstr("transformer, fused, scheduled, target, llvm"));
  }
}

TEST_F(Pipelines, EachTargetHasItsOwnLastStages) {
  for (const std::string &kind : targetKinds()) {
    SCOPED_TRACE(kind);
    const auto names = stageNames(kind);
    ASSERT_TRUE(names) << names.error().line();
    ASSERT_GE(names->size(), 5u);
    const std::vector<std::string> common(names->begin(), names->begin() + 4);
    EXPECT_EQ(common, (std::vector<std::string>{"transformer", "fused", "scheduled", "target"}));
    EXPECT_EQ(parseStage("target", kind).value(), Stage::Target);
    EXPECT_EQ(parseStage(names->back(), kind).value(), Stage::Text);
    EXPECT_EQ(parseStage("llvm", kind).has_value(), names->size() == 6);
  }
  EXPECT_EQ(parseStage("text", "reference").value(), Stage::Text);
  const auto refused = parseStage("asm", "reference");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::Unusable);
  EXPECT_THAT(refused.error().line(), HasSubstr("the target reference has no such stage"));
  EXPECT_THAT(refused.error().line(), HasSubstr("scheduled, target, text"));
  EXPECT_EQ(parseStage("fused", "abacus").error().kind, ErrorKind::Unusable);
}

/// What a kernel computes is in its body: the reference begins anew with it, at any stage.
TEST_F(Pipelines, TheReferenceTakesModulesOfAnyStage) {
  auto module = TestDecoder::build(context, decoderCase("GptF32"));
  const PipelineOptions reference{referenceTarget(), 1, true, {}, {}};
  for (Stage stage : {Stage::Fused, Stage::Llvm}) {
    expectReached(*module, stage, options());
    EXPECT_TRUE(checkNotBeyond(*module, Stage::Target, "reference"));
    EXPECT_EQ(bool(checkNotBeyond(*module, Stage::Scheduled, "cpu")), stage == Stage::Fused);
    mlir::OwningOpRef<mlir::ModuleOp> copy(module->clone());
    expectReached(*copy, Stage::Scheduled, reference);
    const auto text = printCode(*copy, reference);
    ASSERT_TRUE(text) << text.error().line();
    EXPECT_TRUE(parse(*text));
    for (auto kernel : copy->getOps<KernelOp>())
      EXPECT_THAT(*text, HasSubstr("// kernel " + kernel.getSymName().str() + "\n"));
  }
}

TEST_F(Pipelines, AssemblyForAnyProcessor) {
  auto unscheduled = TestDecoder::build(context, decoderCase("GptF32"));
  for (const char *cpu : {"sapphirerapids", "znver5", "haswell"}) {
    SCOPED_TRACE(cpu);
    auto module = unscheduled->clone();
    mlir::OwningOpRef<mlir::ModuleOp> owner(module);
    expectReached(module, Stage::Scheduled, options(cpu));
    std::string before = printModule(module);
    auto text = printCode(module, options(cpu));
    ASSERT_TRUE(text) << text.error().line();
    EXPECT_EQ(printModule(module), before);
    for (auto kernel : module.getOps<KernelOp>())
      EXPECT_THAT(*text, HasSubstr("# kernel " + kernel.getSymName().str() + "\n"));
    if (cpu == std::string("haswell"))
      EXPECT_THAT(*text, Not(HasSubstr("zmm")));
    else
      EXPECT_THAT(*text, HasSubstr("%zmm31"));
    EXPECT_THAT(*text, HasSubstr("vfmadd231ps"));
  }
}

TEST_F(Pipelines, AssemblyNeedsSchedules) {
  auto module = TestDecoder::build(context, decoderCase("GptF32"));
  expectReached(*module, Stage::Fused, options());
  auto text = printCode(*module, options());
  ASSERT_FALSE(text);
  EXPECT_THAT(text.error().line(), HasSubstr("schedule"));
}

//===----------------------------------------------------------------------===//
// Dumps
//===----------------------------------------------------------------------===//

/// Texts of a folder's files, by name.
std::map<std::string, std::string> readFolder(const std::filesystem::path &folder) {
  std::map<std::string, std::string> files;
  for (const auto &entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream in(entry.path());
    files[entry.path().filename()] = {std::istreambuf_iterator<char>(in), {}};
  }
  return files;
}

TEST_F(Pipelines, DumpsHoldWhatChanged) {
  TemporaryHome home;
  auto module = TestDecoder::build(context, decoderCase("LlamaHalfSplit"));
  PipelineOptions dumped = options();
  dumped.dumpFolder = home.folder / "new" / "dumps";
  expectReached(*module, Stage::Fused, dumped);
  auto files = readFolder(dumped.dumpFolder);
  std::vector<std::string> names;
  for (const auto &[name, text] : files)
    names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{
                       "01-kernelforge-decompose.mlir", "02-kernelforge-merge-matmuls.mlir",
                       "03-kernelforge-merge-matmuls.mlir", "04-kernelforge-assign-layouts.mlir",
                       "05-kernelforge-fuse.mlir"}));
  std::set<std::string> texts;
  for (const auto &[name, text] : files) {
    EXPECT_TRUE(texts.insert(text).second) << name << " is like another";
    EXPECT_TRUE(parse(text)) << name;
  }
  EXPECT_THAT(files["01-kernelforge-decompose.mlir"], Not(HasSubstr("transformer.mlp")));
  EXPECT_THAT(files["05-kernelforge-fuse.mlir"], HasSubstr("transformer.kernel"));

  // A module without composites is not changed by the first pass, nor a fused one by any.
  auto matmul = buildMatmul(&context, 1, 4, 32, 32, ElementType::F32);
  dumped.dumpFolder = home.folder / "matmul";
  expectReached(*matmul, Stage::Fused, dumped);
  names.clear();
  for (const auto &[name, text] : readFolder(dumped.dumpFolder))
    names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"01-kernelforge-assign-layouts.mlir",
                                             "02-kernelforge-fuse.mlir"}));
  dumped.dumpFolder = home.folder / "again";
  expectReached(*matmul, Stage::Fused, dumped);
  EXPECT_TRUE(readFolder(dumped.dumpFolder).empty());

  std::ofstream(home.folder / "file") << "no folder";
  dumped.dumpFolder = home.folder / "file" / "under";
  Status refused = runToStage(*matmul, Stage::Fused, dumped);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::Failed);
  EXPECT_THAT(refused.error().line(), HasSubstr("under"));
}

//===----------------------------------------------------------------------===//
// Fusion of a layer
//===----------------------------------------------------------------------===//

TEST_F(Pipelines, ALayerIsAFewKernelsOfOneRootEach) {
  ModelDescription llama = llamaLike(), gpt = gptLike();
  for (ModelDescription *description : {&llama, &gpt})
    description->layers.resize(1), description->vocabSize = 0;
  for (const ModelDescription &description : {llama, gpt}) {
    SCOPED_TRACE(description.architecture);
    auto module = buildDecoder(&context, description, {FunctionRange{"prefill", 2, 64, 1, 1}},
                               [](llvm::StringRef) { return ElementType::F32; });
    expectReached(*module, Stage::Fused, options());
    int kernels = 0;
    for (auto kernel : module->getOps<KernelOp>()) {
      ++kernels;
      int roots = 0;
      for (mlir::Operation &op : kernel.getBody().front())
        roots += mlir::isa<transformer::MatmulOp, transformer::AttentionOp>(op);
      EXPECT_EQ(roots, 1) << kernel.getSymName().str();
    }
    EXPECT_GE(kernels, 3);
    EXPECT_LE(kernels, 8);
    int launches = 0;
    module->walk([&](transformer::LaunchOp) { ++launches; });
    EXPECT_EQ(launches, kernels);
    // Everything is in a kernel.
    for (auto function : module->getOps<mlir::func::FuncOp>())
      for (mlir::Operation &op : function.getBody().front().without_terminator())
        EXPECT_TRUE(mlir::isa<transformer::LaunchOp>(op)) << op.getName().getStringRef().str();
  }
}

TEST_F(Pipelines, WithoutFusionEveryOperationIsAKernel) {
  auto module = TestDecoder::build(context, decoderCase("GptF32"));
  PipelineOptions separate = options();
  separate.fuse = false;
  expectReached(*module, Stage::Fused, separate);
  for (auto kernel : module->getOps<KernelOp>())
    EXPECT_EQ(kernel.getBody().front().getOperations().size(), 2u) << kernel.getSymName().str();
}

//===----------------------------------------------------------------------===//
// Size
//===----------------------------------------------------------------------===//

/// The thirty layers of SmolLM2-135M.
DecoderCase smolLM2() {
  DecoderCase smol;
  ModelDescription &d = smol.description;
  d.modelDim = 576;
  d.vocabSize = 49152;
  d.contextLength = 8192;
  d.tiedHead = true;
  LayerDescription layer;
  layer.attention = {.heads = 9, .kvHeads = 3, .headDim = 64};
  layer.attention.rope = d.addRope({.pairing = RopePairing::Interleaved, .rotaryDim = 64});
  layer.mlp.width = 1536;
  d.layers.assign(30, layer);
  smol.weightType = [](llvm::StringRef name) {
    return name == "token_embd.weight" ? ElementType::Q8_0 : ElementType::Q4_1;
  };
  return smol;
}

/// One line of a dump is one launch, and says what it is.
TEST_F(Pipelines, ADecodersDumpIsReadable) {
  const DecoderCase smol = smolLM2();
  auto module = buildDecoder(&context, smol.description, FunctionRange{"decode", 1, 1, 1, 1},
                             smol.weightType);
  expectReached(*module, Stage::Fused, options("sapphirerapids"));
  const std::string text = printModule(*module);
  EXPECT_LE(text.size(), 45000u);
  std::istringstream lines(text);
  int launches = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("transformer.launch") == std::string::npos)
      continue;
    ++launches;
    EXPECT_LE(line.size(), 200u) << line;
  }
  EXPECT_EQ(launches, 30 * 5 + 2);
  std::vector<std::string> names;
  for (auto kernel : module->getOps<KernelOp>())
    names.push_back(kernel.getSymName().str());
  EXPECT_EQ(names,
            (std::vector<std::string>{"decode.token_embd", "decode.attn_qkv", "decode.attention",
                                      "decode.attn_output", "decode.ffn_gate_up", "decode.ffn_down",
                                      "decode.output"}));
  EXPECT_THAT(text, HasSubstr("transformer.launch @decode.ffn_down[29](%arg0, "));
  // Kernels are shared by layers, so nothing in them speaks of one.
  EXPECT_THAT(text, Not(HasSubstr("transformer.layer")));
}

/// Every stage of both functions can be printed and read.
TEST_F(Pipelines, AWholeModelStaysPrintable) {
  const DecoderCase smol = smolLM2();
  auto module =
      buildDecoder(&context, smol.description,
                   {FunctionRange{"prefill", 2, 512, 1, 1}, FunctionRange{"decode", 1, 1, 1, 1}},
                   smol.weightType);
  for (const char *cpu : {"sapphirerapids", "haswell"}) {
    mlir::OwningOpRef<mlir::ModuleOp> copy(module->clone());
    for (Stage stage : moduleStages) {
      expectReached(*copy, stage, options(cpu));
      size_t bytes = printModule(*copy).size();
      RecordProperty(std::string(cpu) + "_" + std::to_string(static_cast<int>(stage)),
                     std::to_string(bytes));
      EXPECT_LT(bytes, 2u << 20) << cpu << ", stage " << static_cast<int>(stage);
    }
  }
}

} // namespace
