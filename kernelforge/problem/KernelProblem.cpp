#include "kernelforge/problem/KernelProblem.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/compiler/KernelCompiler.h"
#include "kernelforge/compiler/LibraryKernels.h"
#include "kernelforge/compiler/ProgramBuilder.h"
#include "kernelforge/compiler/RecordKeys.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/ir/WeightLayouts.h"
#include "kernelforge/problem/KernelFunction.h"
#include "kernelforge/problem/Verification.h"
#include "kernelforge/support/Json.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

/// A module of its own for a kernel, with a function that launches it on its arguments.
static OwningOpRef<ModuleOp> moduleFor(KernelOp kernel) {
  auto parent = kernel->getParentOfType<ModuleOp>();
  OpBuilder builder(kernel.getContext());
  OwningOpRef<ModuleOp> module = ModuleOp::create(kernel.getLoc());
  (*module)->setAttrs(parent->getAttrs());
  builder.setInsertionPointToEnd(module->getBody());
  auto copy = cast<KernelOp>(builder.clone(*kernel));
  copy.setSymName("kernel");
  // What is a weight where the kernel is from is one here.
  const KernelAnalysis original(kernel);
  for (BlockArgument argument : kernel.getBody().getArguments())
    if (original.isWeight(argument))
      copy.setArgAttr(argument.getArgNumber(), weightAttrName, builder.getStringAttr("weight"));
  copy.removeVariantAttr(); // it is about generated code
  copy.removeCodeAttr();
  copy.removeLaunchingAttr();
  addKernelFunction(*module, copy, "run");
  return module;
}

std::span<const std::byte> ProblemData::argument(size_t index) const {
  if (packed[index].size() > 0)
    return packed[index].span();
  return rowMajor(index);
}

std::span<const std::byte> ProblemData::rowMajor(size_t index) const {
  const TensorData &tensor = data.arguments[index];
  return {tensor.memory.data(), tensor.bytes()};
}

Expected<std::unique_ptr<KernelProblem>> KernelProblem::create(KernelOp kernel,
                                                               const ProblemOptions &options) {
  std::unique_ptr<KernelProblem> problem(new KernelProblem);
  KernelProblem &p = *problem;
  p.settings = options;
  p.kernelName = kernel.getSymName().str();
  p.kernelFamily = kernel.getFamily().str();
  p.recordsKey = recordKey(kernel, options.target, options.threads);
  const KernelAnalysis analysis(kernel);
  p.cost = analysis.cost();
  p.call = libraryCall(kernel);
  KF_TRY(p.schedules,
         generatorOf(options.target).scheduleSpace(analysis, options.target, options.threads));
  p.module = moduleFor(kernel);
  KF_TRY(p.function, readSignature(p.module->lookupSymbol<func::FuncOp>("run")));
  SizeValues sizes = options.sizes;
  for (const ProgramSize &size : p.function.sizes)
    if (!p.function.boundsLengths(size.name))
      sizes.try_emplace(size.name, size.max);
  KF_TRY(sizes, chooseSizes(p.function, sizes, options.past));

  const std::vector<Type> types = declaredTypes(*p.module, "run");
  for (int set = 0; set < options.dataSets; ++set) {
    ProblemData data;
    Expected<FunctionData> made = randomData(p.function, sizes, options.seed + set, options.past);
    if (!made && made.error().where == "@" + p.function.name) {
      // The function around the kernel is ours: its user knows the kernel.
      made.error().where = "@" + p.kernelName;
      made.error().hint = "give the kernel's sizes smaller maxima";
    }
    KF_TRY(data.data, std::move(made));
    KF_TRY(std::vector<TensorData> reference, runReference(*p.module, p.function, data.data));
    KF_TRY(data.tolerances, tolerancesOf(*p.module, p.function, data.data, reference));
    for (const TensorData &output : reference)
      data.references.push_back(output.toFloats());
    for (size_t i = 0; i < types.size(); ++i) {
      data.packed.emplace_back();
      if (layoutOf(types[i])) {
        KF_TRY(data.packed.back(), packWeight(data.data.arguments[i], weightLayoutOf(types[i])));
      }
    }
    p.sets.push_back(std::move(data));
  }
  return problem;
}

Expected<std::shared_ptr<const Program>> KernelProblem::compile(const KnobValues &schedule) const {
  OwningOpRef<ModuleOp> copy = ModuleOp(module.get()).clone();
  auto kernel = copy->lookupSymbol<KernelOp>("kernel");
  kernel.setScheduleAttr(scheduleAttr(kernel.getContext(), schedule));
  return compile(*copy);
}

/// Makes an argument row-major in what has it: the kernel, or the function that passes it on.
template <typename Op> static void makeRowMajor(Op op, unsigned index) {
  BlockArgument argument = op.getArgument(index);
  argument.setType(withLayout(cast<RankedTensorType>(argument.getType()), {}));
  op.setFunctionType(FunctionType::get(op.getContext(), op.getBody().front().getArgumentTypes(),
                                       op.getFunctionType().getResults()));
}

Expected<std::shared_ptr<const Program>> KernelProblem::compile(const MatmulKernel &variant) const {
  if (!call)
    return unusable("variant cannot run the kernel",
                    kernelName + ", " + std::string(variant.name()),
                    "the kernel is not exactly one matmul");
  OwningOpRef<ModuleOp> copy = ModuleOp(module.get()).clone();
  auto kernel = copy->lookupSymbol<KernelOp>("kernel");
  kernel.setVariant(std::string(variant.name()));
  makeRowMajor(kernel, call->weight);
  makeRowMajor(copy->lookupSymbol<func::FuncOp>("run"), call->weight);
  return compile(*copy);
}

/// Compiles this problem's module after it was changed.
Expected<std::shared_ptr<const Program>> KernelProblem::compile(ModuleOp copy) const {
  KernelAnalyses analyses;
  KF_TRY(std::vector<Artifact> artifacts,
         compileKernels(copy, settings.target, ObjectCache::disabled(), analyses));
  KF_TRY(Program program,
         buildProgram(copy.lookupSymbol<func::FuncOp>("run"), artifacts, settings.target.limits));
  program.artifacts.front().kernel = kernelName;
  return std::make_shared<const Program>(std::move(program));
}

std::string KernelProblem::text() const {
  OwningOpRef<ModuleOp> copy = ModuleOp(module.get()).clone();
  copy->lookupSymbol("run")->erase();
  copy->lookupSymbol<KernelOp>("kernel").setSymName(kernelName);
  std::string text;
  llvm::raw_string_ostream(text) << *copy;
  return text;
}

std::string KernelProblem::runText() const {
  Json json = {{"sizes", sizes()}, {"past", settings.past}, {"seed", settings.seed}};
  if (settings.streamBytes > 0)
    json["stream_bytes"] = settings.streamBytes;
  return json.dump();
}

Expected<ProblemOptions> kernelforge::problemOptionsFrom(std::string_view runText,
                                                         ProblemOptions options) {
  KF_TRY(JsonDocument document,
         parseJson(runText, "record is not usable", "field run", configJsonLimits));
  KF_TRY(options.past, document.root().integer("past", 0, int64_t(1) << 30));
  KF_TRY(int64_t seed, document.root().integer("seed", 0, INT64_MAX));
  options.seed = static_cast<uint64_t>(seed);
  KF_TRY(options.streamBytes,
         document.root().integerOr("stream_bytes", 0, int64_t(1) << 40, options.streamBytes));
  KF_TRY(JsonView sizes, document.root().object("sizes"));
  KF_TRY(auto members, sizes.members());
  for (const auto &[name, value] : members) {
    KF_TRY(options.sizes[name], value.asInteger(1, int64_t(1) << 40));
  }
  return options;
}

double KernelProblem::flops() const {
  const FunctionData &data = sets.front().data;
  return cost.flops(data.sizeList(function, data.longest(function)).data());
}

double KernelProblem::bytes() const {
  const FunctionData &data = sets.front().data;
  return cost.bytes(data.sizeList(function, data.longest(function)).data());
}
