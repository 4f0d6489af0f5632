#include "kernelforge/compiler/Pipelines.h"

#include "kernelforge/compiler/DumpPasses.h"
#include "kernelforge/compiler/KernelCompiler.h"
#include "kernelforge/compiler/Planner.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/passes/Passes.h"
#include "kernelforge/support/Suggest.h"

#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Transforms/Passes.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

/// The stages of every target.
static constexpr std::string_view commonStages[] = {"transformer", "fused", "scheduled"};

/// The names of a target's stages, by what they are.
static std::vector<std::pair<std::string, Stage>> stagesOf(const CodeGenerator &generator) {
  std::vector<std::pair<std::string, Stage>> stages;
  for (std::string_view name : commonStages)
    stages.emplace_back(name, static_cast<Stage>(stages.size()));
  const std::span<const std::string_view> own = generator.stages();
  for (size_t i = 0; i < own.size(); ++i)
    stages.emplace_back(own[i], i == 0                ? Stage::Target
                                : i + 1 == own.size() ? Stage::Text
                                                      : Stage::Llvm);
  return stages;
}

Expected<std::vector<std::string>> kernelforge::stageNames(std::string_view kind) {
  KF_TRY(const CodeGenerator *generator, findGenerator(kind));
  std::vector<std::string> names;
  for (auto &[name, stage] : stagesOf(*generator))
    names.push_back(name);
  return names;
}

Expected<Stage> kernelforge::parseStage(std::string_view name, std::string_view kind) {
  KF_TRY(const CodeGenerator *generator, findGenerator(kind));
  for (auto &[known, stage] : stagesOf(*generator))
    if (known == name)
      return stage;
  KF_TRY(std::vector<std::string> names, stageNames(kind));
  return unusable("unknown stage", std::string(name),
                  fmt::format("the target {} has no such stage", kind), namesHint(name, names));
}

/// A stage as a target calls it; Llvm, where it has none, as others do.
static std::string stageName(Stage stage, const CodeGenerator &generator) {
  for (auto &[name, known] : stagesOf(generator))
    if (known == stage)
      return name;
  return "llvm";
}

Stage kernelforge::reachedStage(ModuleOp module) {
  Stage reached = Stage::Transformer;
  for (auto kernel : module.getOps<KernelOp>()) {
    Stage stage = kernel.getScheduleSource() ? Stage::Scheduled : Stage::Fused;
    if (auto code = kernel.getCode())
      stage = isa_and_nonnull<LLVM::LLVMFuncOp>(module.lookupSymbol(*code)) ? Stage::Llvm
                                                                            : Stage::Target;
    reached = std::max(reached, stage);
  }
  return reached;
}

Status kernelforge::checkNotBeyond(ModuleOp module, Stage stage, std::string_view kind) {
  KF_TRY(const CodeGenerator *generator, findGenerator(kind));
  const Stage reached = generator->takesAnyStage() ? std::min(reachedStage(module), Stage::Fused)
                                                   : reachedStage(module);
  if (reached <= stage)
    return {};
  const std::string name = stageName(reached, *generator);
  return unusable("module is beyond that stage", stageName(stage, *generator),
                  "it is at stage " + name + " already, and no pass goes back",
                  "ask for " + name +
                      " or a later stage, or begin with the module as it was "
                      "written");
}

void kernelforge::buildFusePipeline(OpPassManager &passes, const Target &target, bool fuse) {
  const CodeGenerator &generator = generatorOf(target);
  passes.addPass(createDecompose());
  // Of functions alone: a kernel's body is what its writer made it, and must not become empty.
  passes.addNestedPass<func::FuncOp>(createCanonicalizerPass());
  if (fuse)
    passes.addNestedPass<func::FuncOp>(createMergeMatmuls());
  passes.addPass(createMarkWeights());
  passes.addPass(createAssignLayouts(
      [&generator](RankedTensorType weight) { return generator.layoutFor(weight); },
      generator.needsLayouts()));
  passes.addPass(createFuse(FuseOptions{fuse}, [&generator, target](KernelOp kernel) {
    return generator.supports(KernelAnalysis(kernel), target).has_value();
  }));
}

/// "haswell +avx512f": what a user asks for.
static std::string targetText(TargetAttr target) {
  std::string text = target.getCpu().str();
  for (StringAttr feature : target.getFeatures())
    text += " " + feature.getValue().str();
  return text;
}

/// Takes back what was chosen and emitted for kernels.
static void dropChoices(ModuleOp module) {
  for (auto kernel : module.getOps<KernelOp>()) {
    if (auto code = kernel.getCode())
      if (Operation *function = module.lookupSymbol(*code))
        function->erase();
    kernel.dropChoices();
  }
}

/// Puts the target on the module. Code that a module brings must be for that target: nobody else
/// knows whether other machines can run it.
static Status setTarget(ModuleOp module, const PipelineOptions &options) {
  MLIRContext *context = module.getContext();
  SmallVector<StringAttr> features;
  for (const std::string &feature : options.target.features)
    features.push_back(StringAttr::get(context, feature));
  auto target = TargetAttr::get(context, options.target.kind, options.target.triple,
                                options.target.chip, features, options.threads);
  auto before = module->getAttrOfType<TargetAttr>(targetAttrName);
  auto machine = [](TargetAttr of) {
    return std::tuple(of.getKind(), of.getTriple(), of.getCpu(), of.getFeatures());
  };
  if (generatorOf(options.target).takesAnyStage())
    dropChoices(module);
  if (before && machine(before) != machine(target))
    for (auto kernel : module.getOps<KernelOp>())
      if (kernel.getCode())
        return unusable("kernel is for another target", "@" + kernel.getSymName().str(),
                        "its code is for " + targetText(before) + ", not for " + targetText(target),
                        "ask for that target, or begin at stage scheduled");
  module->setAttr(targetAttrName, target);
  return {};
}

Status kernelforge::runFuse(ModuleOp module, const PipelineOptions &options) {
  KF_CHECK(setTarget(module, options));
  DiagnosticText diagnostics(module.getContext());
  PassManager passes(module.getContext());
  buildFusePipeline(passes, options.target, options.fuse);
  Status dumped;
  if (!options.dumpFolder.empty())
    KF_CHECK(dumpPasses(passes, options.dumpFolder, dumped));
  if (failed(passes.run(module)))
    return unusable("module cannot be compiled", "fusion", diagnostics.take("a pass failed"));
  return dumped;
}

Status kernelforge::runToStage(ModuleOp module, Stage stage, const PipelineOptions &options,
                               KernelAnalyses &analyses) {
  if (stage == Stage::Transformer)
    return {};
  loadStages(module.getContext(), options.target);
  KF_CHECK(runFuse(module, options));
  if (stage == Stage::Fused)
    return {};
  KF_CHECK(scheduleKernels(module, options.target, options.threads,
                           options.records ? &*options.records : nullptr, analyses));
  if (stage == Stage::Scheduled)
    return {};
  return emitKernelsInto(module, options.target, /*lower=*/stage == Stage::Llvm, analyses);
}

Status kernelforge::runToStage(ModuleOp module, Stage stage, const PipelineOptions &options) {
  KernelAnalyses analyses;
  return runToStage(module, stage, options, analyses);
}

Expected<std::string> kernelforge::printCode(ModuleOp module, const PipelineOptions &options) {
  loadStages(module.getContext(), options.target);
  const CodeGenerator &generator = generatorOf(options.target);
  const std::string_view comment = generator.commentLeader();
  std::string text;
  for (auto kernel : module.getOps<KernelOp>()) {
    text += fmt::format("{} kernel {}\n", comment, kernel.getSymName().str());
    if (!kernel.isGenerated()) {
      text += fmt::format("{} run by {}, which is no code of this module\n", comment,
                          kernel.getVariant()->str());
      continue;
    }
    const KernelAnalysis analysis(kernel);
    KF_TRY(EmittedKernel emitted, emitKernelModule(analysis, options.target));
    KF_TRY(const std::string code, generator.print(emitted, analysis, options.target));
    text += code;
  }
  return text;
}

void kernelforge::registerAllStages(DialectRegistry &registry) {
  registry.insert<TransformerDialect, func::FuncDialect>();
  for (const std::string &kind : targetKinds())
    (*findGenerator(kind))->registerDialects(registry);
}

/// Makes `context` hold the dialects of a registry.
static void load(MLIRContext *context, const DialectRegistry &registry) {
  context->appendDialectRegistry(registry);
  for (StringRef dialect : registry.getDialectNames())
    context->getOrLoadDialect(dialect);
}

void kernelforge::loadStages(MLIRContext *context, const Target &target) {
  DialectRegistry registry;
  registry.insert<TransformerDialect, func::FuncDialect>();
  generatorOf(target).registerDialects(registry);
  load(context, registry);
}

void kernelforge::loadAllStages(MLIRContext *context) {
  DialectRegistry registry;
  registerAllStages(registry);
  load(context, registry);
}

DiagnosticText::DiagnosticText(MLIRContext *context)
    : handler(context, [this](Diagnostic &diagnostic) {
        if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
          text += (text.empty() ? "" : "; ") + diagnostic.str();
        return success();
      }) {}

std::string DiagnosticText::take(std::string_view otherwise) {
  return text.empty() ? std::string(otherwise) : std::move(text);
}
