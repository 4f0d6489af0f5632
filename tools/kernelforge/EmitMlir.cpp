// emit-mlir: a block or model at any stage of the compiler, as text.
#include "BlockOption.h"
#include "Commands.h"
#include "ModuleText.h"
#include "NumericsOption.h"
#include "Usage.h"

#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/ir/ModuleBuilder.h"
#include "kernelforge/ir/Numerics.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/llm/ModelFile.h"
#include "kernelforge/llm/ModelNames.h"
#include "kernelforge/support/OutputFile.h"
#include "kernelforge/support/Suggest.h"

#include "llvm/ADT/SetVector.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cli;
using namespace kernelforge::transformer;

namespace {

struct EmitOptions {
  std::string file, block, model, phase, weights, stage = "transformer", kernel, dumpFolder, output;
  std::string numerics = "exact";
  bool noFuse = false;
};

/// What is emitted: a description, and the type of each weight.
struct Subject {
  ModelDescription description;
  std::map<std::string, ElementType, std::less<>> types; ///< of a model's weights
  ElementType otherwise = ElementType::F32;

  ElementType typeOf(StringRef name) const {
    auto known = types.find(std::string_view(name.data(), name.size()));
    return known == types.end() ? otherwise : known->second;
  }
};

} // namespace

static Expected<Subject> readSubject(const EmitOptions &options) {
  Subject subject;
  if (!options.block.empty()) {
    KF_TRY(subject.description, parseBlock(options.block));
    KF_TRY(subject.otherwise, parseWeightType(options.weights.empty() ? "f32" : options.weights));
    KF_CHECK(checkWeightType(subject.description, subject.otherwise));
    return subject;
  }
  KF_TRY(std::string path, resolveModel(options.model));
  KF_TRY(ModelFile model, openModel(path));
  subject.description = std::move(model.description);
  for (const Weight &weight : model.weights)
    subject.types.emplace(weight.name, weight.type);
  return subject;
}

static std::vector<FunctionRange> rangesOf(const EmitOptions &options) {
  std::vector<FunctionRange> ranges;
  if (options.phase != "decode")
    ranges.push_back({"prefill", 2, 512, 1, 1});
  if (options.phase != "prefill")
    ranges.push_back({"decode", 1, 1, 1, 1});
  return ranges;
}

static Expected<OwningOpRef<ModuleOp>> moduleOf(MLIRContext *context, const EmitOptions &options) {
  if (!options.file.empty())
    return parseModule(context, options.file);
  KF_TRY(Subject subject, readSubject(options));
  return buildDecoder(context, subject.description, rangesOf(options),
                      [&](StringRef name) { return subject.typeOf(name); });
}

/// Leaves nothing in `module` but the kernel and what it names.
static Status keepOnly(ModuleOp module, const std::string &name) {
  llvm::SetVector<Operation *> kept;
  std::vector<std::string> names;
  for (auto kernel : module.getOps<KernelOp>()) {
    names.push_back(kernel.getSymName().str());
    if (names.back() == name)
      kept.insert(kernel);
  }
  if (kept.empty())
    return unusable("unknown kernel", "--kernel " + name,
                    names.empty() ? "the module has no kernels at this stage"
                                  : fmt::format("the module has {}", fmt::join(names, ", ")),
                    names.empty() ? "give --stage fused or a later one" : didYouMean(name, names));
  for (size_t i = 0; i < kept.size(); ++i)
    if (auto uses = SymbolTable::getSymbolUses(kept[i]))
      for (SymbolTable::SymbolUse use : *uses)
        if (Operation *used = module.lookupSymbol(use.getSymbolRef().getRootReference()))
          kept.insert(used);
  for (Operation &op : llvm::make_early_inc_range(*module.getBody()))
    if (!kept.contains(&op))
      op.erase();
  return {};
}

static Expected<std::string> emitText(const EmitOptions &options, const Context &context) {
  KF_TRY(Stage stage, parseStage(options.stage, context.target));
  PipelineOptions pipeline;
  KF_TRY(pipeline.target, requestedTarget(context));
  pipeline.threads = requestedThreads(context);
  pipeline.fuse = !options.noFuse;
  pipeline.dumpFolder = options.dumpFolder;
  pipeline.records = requestedRecords(context);
  DialectRegistry registry;
  registerAllStages(registry);
  MLIRContext mlirContext(registry);
  mlirContext.loadAllAvailableDialects();
  KF_TRY(OwningOpRef<ModuleOp> module, moduleOf(&mlirContext, options));
  KF_TRY(const ChosenNumerics numerics, requestedNumerics(options.numerics, context));
  KF_CHECK(setNumerics(*module, numerics));
  KF_CHECK(checkNotBeyond(*module, stage, context.target));
  KF_CHECK(runToStage(*module, stage == Stage::Text ? Stage::Scheduled : stage, pipeline));
  if (!options.kernel.empty())
    KF_CHECK(keepOnly(*module, options.kernel));
  if (stage == Stage::Text)
    return printCode(*module, pipeline);
  std::string text;
  llvm::raw_string_ostream stream(text);
  module->print(stream);
  stream << "\n";
  return text;
}

static Expected<int> emitMlir(const EmitOptions &options, const Context &context) {
  if (!options.file.empty() + !options.block.empty() + !options.model.empty() != 1)
    return unusable("wrong usage", "kernelforge emit-mlir",
                    "what to print is not said, or said twice",
                    "give a module's file, --block or --model");
  if (options.block.empty() && !options.weights.empty())
    return unusable("wrong usage", "--weights", "only a block's weights have no type of their own",
                    "leave it out");
  if (!options.file.empty() && !options.phase.empty())
    return unusable("wrong usage", "--phase", "a module's functions are printed as they are",
                    "leave it out, or print one kernel with --kernel");
  KF_TRY(std::string text, emitText(options, context));
  if (!options.output.empty())
    KF_CHECK(writeOutput(options.output, text));
  if (context.json) {
    Json answer = {{"stage", options.stage}, {"bytes", text.size()}};
    answer[options.output.empty() ? "text" : "file"] =
        options.output.empty() ? text : options.output;
    printJson(answer);
  } else if (options.output.empty()) {
    print(text);
  }
  return 0;
}

/// "transformer, fused, scheduled; then of cpu target, llvm, asm; of webgpu target, wgsl".
static std::string stagesText() {
  std::vector<std::string> common, own;
  for (const std::string &kind : targetKinds()) {
    const std::vector<std::string> names = stageNames(kind).value_or(std::vector<std::string>());
    const auto first = std::ranges::find(names, "target");
    common.assign(names.begin(), first);
    own.push_back(fmt::format("of {} {}", kind, fmt::join(first, names.end(), ", ")));
  }
  return fmt::format("{}; then {}", fmt::join(common, ", "), fmt::join(own, "; "));
}

void cli::addEmitMlir(CLI::App &app, Context &context) {
  auto options = std::make_shared<EmitOptions>();
  CLI::App &command =
      addCommand(app, context,
                 {"emit-mlir", "print a module, block or model at a stage of the compiler",
                  "emit-mlir --block d_model=576,heads=9,kv_heads=3,d_ff=1536 --stage fused\n"
                  "  kernelforge emit-mlir block.mlir --stage asm --kernel NAME"},
                 [options, &context] { return emitMlir(*options, context); });
  addTargetOptions(command, context);
  command.add_option("file", options->file, "a module at any stage (- reads standard input)");
  command.add_option("--block", options->block, blockHelp);
  command.add_option("--model", options->model, "a model's name, file or folder");
  command.add_option("--weights", options->weights,
                     "type of a block's weight matrices (default: f32)");
  addNumericsOption(command, options->numerics, "a row that does not say it by itself");
  command.add_option("--phase", options->phase, "prefill or decode (default: both)")
      ->check(oneOf({"prefill", "decode"}));
  command.add_option("--stage", options->stage, stagesText())->capture_default_str();
  command.add_option("--kernel", options->kernel, "print this kernel alone");
  command.add_flag("--no-fuse", options->noFuse, "every operation is a kernel of its own");
  command.add_option("--dump-passes", options->dumpFolder,
                     "write the module after each pass that changed it into this folder");
  command.add_option("-o,--output", options->output, "write to this file");
}
