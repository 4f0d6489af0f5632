#include "kernelforge/compiler/KernelCompiler.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/LaunchingJson.h"
#include "kernelforge/codegen/Parameters.h"
#include "kernelforge/compiler/LibraryKernels.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/Planner.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/ir/Hash.h"

#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"

#include <atomic>
#include <chrono>
#include <map>
#include <set>
#include <thread>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

std::string kernelforge::entrySymbol(KernelOp kernel) {
  // Equal bodies may be scheduled differently, and then are different code.
  const std::string variant = kernel.isGenerated() ? "" : kernel.getVariant()->str();
  return "kf_" + sha256Hex(kernelHash(kernel) + scheduleJson(kernel) + variant).substr(0, 16);
}

//===----------------------------------------------------------------------===//
// Launching as attributes, so that a module at stage target says all
//===----------------------------------------------------------------------===//

/// JSON as attributes: numbers are i64.
static Attribute attributeOf(Builder &b, const Json &json) {
  if (json.is_boolean())
    return b.getBoolAttr(json.get<bool>());
  if (json.is_number_integer())
    return b.getI64IntegerAttr(json.get<int64_t>());
  if (json.is_string())
    return b.getStringAttr(json.get<std::string>());
  if (json.is_array()) {
    SmallVector<Attribute> list;
    for (const Json &element : json)
      list.push_back(attributeOf(b, element));
    return b.getArrayAttr(list);
  }
  SmallVector<NamedAttribute> fields;
  for (const auto &[name, value] : json.items())
    fields.push_back(b.getNamedAttr(name, attributeOf(b, value)));
  return b.getDictionaryAttr(fields);
}

/// The same back; null for an attribute of another kind.
static Json jsonOf(Attribute attribute) {
  if (auto boolean = dyn_cast<BoolAttr>(attribute))
    return boolean.getValue();
  if (auto integer = dyn_cast<IntegerAttr>(attribute); integer && integer.getType().isInteger(64))
    return integer.getInt();
  if (auto text = dyn_cast<StringAttr>(attribute))
    return text.getValue().str();
  if (auto list = dyn_cast<ArrayAttr>(attribute)) {
    Json json = Json::array();
    for (Attribute element : list)
      json.push_back(jsonOf(element));
    return json;
  }
  Json json;
  if (auto fields = dyn_cast<DictionaryAttr>(attribute)) {
    json = Json::object();
    for (NamedAttribute field : fields)
      json[field.getName().str()] = jsonOf(field.getValue());
  }
  return json;
}

static void setLaunching(KernelOp kernel, const Launching &launching) {
  Builder b(kernel.getContext());
  kernel.setLaunchingAttr(cast<DictionaryAttr>(attributeOf(b, launchingJson(launching))));
}

static Expected<Launching> launchingOf(KernelOp kernel) {
  auto launching =
      kernel.getLaunching() ? launchingFrom(jsonOf(kernel.getLaunchingAttr())) : launchingFrom({});
  if (launching)
    if (Status status = checkLaunching(*launching, static_cast<int>(bufferAccess(kernel).size()),
                                       static_cast<int>(kernel.getNumSizes()));
        !status)
      launching = tl::unexpected<Error>(status.error());
  if (!launching)
    return unusable("kernel cannot be launched", kernelName(kernel),
                    "its attribute launching is missing or malformed: " + launching.error().why,
                    "emit the kernel again from stage scheduled");
  return launching;
}

//===----------------------------------------------------------------------===//
// Emitting
//===----------------------------------------------------------------------===//

/// The functions that a launching calls, each once.
static std::set<std::string> entriesOf(const Launching &launching) {
  std::set<std::string> entries;
  for (const Phase &phase : launching.phases)
    entries.insert(phase.entry);
  return entries;
}

/// Adds a function of another module, and what it names that is no function: memory.
static void cloneInto(ModuleOp module, Operation *function) {
  module.push_back(function->clone());
  const auto uses = SymbolTable::getSymbolUses(function);
  if (!uses)
    return;
  for (const SymbolTable::SymbolUse &use : *uses) {
    const StringAttr name = use.getSymbolRef().getRootReference();
    Operation *memory = SymbolTable::lookupSymbolIn(function->getParentOp(), name);
    if (memory && !isa<FunctionOpInterface>(memory) && !module.lookupSymbol(name))
      module.push_back(memory->clone());
  }
}

static OwningOpRef<ModuleOp> moduleLike(KernelOp kernel) {
  return ModuleOp::create(UnknownLoc::get(kernel.getContext()));
}

Expected<EmittedKernel> kernelforge::emitKernelModule(const KernelAnalysis &analysis,
                                                      const Target &target) {
  KernelOp kernel = analysis.kernel();
  EmittedKernel emitted{moduleLike(kernel), entrySymbol(kernel), {}};
  if (auto code = kernel.getCodeAttr()) {
    emitted.entry = code.getValue().str();
    KF_TRY(emitted.launching, launchingOf(kernel));
    for (const std::string &entry : entriesOf(emitted.launching)) {
      Operation *function = SymbolTable::lookupSymbolIn(kernel->getParentOp(), entry);
      if (!isa_and_nonnull<FunctionOpInterface>(function) || isa<KernelOp>(function))
        return unusable("kernel has no code", kernelName(kernel),
                        "it names @" + entry + ", which is no function of the module",
                        "emit the kernel again from stage scheduled");
      cloneInto(*emitted.module, function);
    }
  } else {
    KF_TRY(emitted.launching,
           generatorOf(target).emit(*emitted.module, analysis, target, emitted.entry));
  }
  KF_CHECK(generatorOf(target).lower(*emitted.module));
  return emitted;
}

/// Emits a kernel's function at the end of `module`, in the LLVM dialect with `lower`; there it
/// takes the place of the one that the kernel names.
static Expected<Launching> emitInto(ModuleOp module, const KernelAnalysis &analysis,
                                    const Target &target, const std::string &entry, bool lower) {
  KernelOp kernel = analysis.kernel();
  if (!kernel.getCode() && SymbolTable::lookupSymbolIn(module, entry))
    return unusable("kernel cannot be emitted", analysis.name(),
                    "the module has a symbol @" + entry + " already", "give that another name");
  if (!lower)
    return generatorOf(target).emit(module, analysis, target, entry);
  KF_TRY(EmittedKernel emitted, emitKernelModule(analysis, target));
  SmallVector<Operation *> symbols;
  for (Operation &op : *emitted.module->getBody())
    symbols.push_back(&op);
  for (Operation *op : symbols) {
    if (Operation *before = SymbolTable::lookupSymbolIn(module, SymbolTable::getSymbolName(op)))
      before->erase();
    op->remove();
    module.push_back(op);
  }
  return emitted.launching;
}

Status kernelforge::emitKernelsInto(ModuleOp module, const Target &target, bool lower,
                                    KernelAnalyses &analyses) {
  std::map<std::string, Launching> emitted; // by entry
  for (KernelOp kernel : SmallVector<KernelOp>(module.getOps<KernelOp>())) {
    if (!kernel.isGenerated() || (kernel.getCode() && !lower))
      continue;
    const std::string entry = kernel.getCode() ? kernel.getCode()->str() : entrySymbol(kernel);
    auto known = emitted.find(entry);
    if (known == emitted.end()) {
      KF_TRY(Launching launching, emitInto(module, analyses.of(kernel), target, entry, lower));
      known = emitted.emplace(entry, std::move(launching)).first;
    }
    setLaunching(kernel, known->second);
    kernel.setCode(entry);
  }
  return {};
}

//===----------------------------------------------------------------------===//
// Compiling
//===----------------------------------------------------------------------===//

/// Layouts of a kernel's weights, as text: part of the cache's key.
static std::string layoutsText(KernelOp kernel) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  for (Type type : kernel.getArgumentTypes())
    if (LayoutAttr layout = layoutOf(type))
      stream << layout << ";";
  return text;
}

static void nameSizes(KernelOp kernel, Artifact &artifact) {
  for (unsigned i = 0; i < kernel.getNumSizes(); ++i)
    artifact.sizeNames.push_back(kernel.getSize(i).getName().str());
}

/// The artifact of a kernel that a variant other than generated runs.
static Expected<Artifact> libraryArtifact(KernelOp kernel) {
  const std::string name = kernel.getVariant()->str();
  std::optional<LibraryCall> call = libraryCall(kernel);
  if (!call || layoutOf(kernel.getArgumentTypes()[call->weight]))
    return unusable("variant cannot run the kernel",
                    kernelName(kernel) + ", variant '" + name + "'",
                    call ? "its weight is packed" : "the kernel is no single matmul",
                    "let the planner have the module");
  Artifact artifact;
  artifact.variant = name;
  artifact.library = std::move(call);
  artifact.entry = entrySymbol(kernel);
  artifact.schedule = scheduleJson(kernel);
  nameSizes(kernel, artifact);
  return artifact;
}

/// Everything that decides a kernel's code; none for code that came with the module, which is not
/// what the code generator would make and is never cached.
static std::optional<ObjectKey> objectKeyOf(KernelOp kernel, const Target &target) {
  if (kernel.getCode())
    return std::nullopt;
  return makeObjectKey(kernelHash(kernel), scheduleJson(kernel), layoutsText(kernel), target);
}

static Expected<Artifact> generateCode(const KernelAnalysis &analysis, const Target &target) {
  auto start = std::chrono::steady_clock::now();
  Artifact artifact;
  KF_TRY(EmittedKernel emitted, emitKernelModule(analysis, target));
  KF_TRY(artifact.code, generatorOf(target).compile(emitted, analysis, target));
  artifact.entry = emitted.entry;
  artifact.codeHash = sha256Hex(artifact.code);
  artifact.schedule = scheduleJson(analysis.kernel());
  artifact.launching = emitted.launching;
  nameSizes(analysis.kernel(), artifact);
  artifact.compileSeconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return artifact;
}

namespace {

/// A thread that compiles kernels beside the one that has the module: it reads the module again in
/// a context of its own, as contexts are of one thread. What a kernel's code is depends on
/// launches.
class Helper {
public:
  Helper(const std::string &text, const Target &target)
      : target(target), context(registry(), MLIRContext::Threading::DISABLED) {
    loadStages(&context, target);
    DiagnosticText diagnostics(&context);
    module = parseSourceString<ModuleOp>(text, &context);
    if (!module)
      why = diagnostics.take("no diagnostics");
  }

  Expected<Artifact> compile(StringRef name) {
    auto kernel = module ? module->lookupSymbol<KernelOp>(name) : KernelOp();
    if (!kernel)
      return failed("kernel cannot be read again", "@" + name.str(), why);
    return generateCode(KernelAnalysis(kernel), target);
  }

private:
  static const DialectRegistry &registry() {
    static const DialectRegistry all = [] {
      DialectRegistry made;
      registerAllStages(made);
      return made;
    }();
    return all;
  }

  const Target &target;
  MLIRContext context;
  OwningOpRef<ModuleOp> module;
  std::string why = "the module has none of that name";
};

/// A kernel whose code is yet to be made.
struct Pending {
  KernelOp kernel;
  std::optional<ObjectKey> key;
  Expected<Artifact> *result = nullptr;
  std::string name = {}; ///< the kernel's, for other threads
};

} // namespace

/// Makes the code of all, by as many threads as have two kernels each to do.
static void compileAll(ModuleOp module, std::vector<Pending> &pending, const Target &target,
                       int threads, KernelAnalyses &analyses) {
  const auto most = static_cast<size_t>(std::max(threads, 1));
  const size_t helpers = std::clamp<size_t>(pending.size() / 2, 1, most) - 1;
  std::string text;
  if (helpers > 0) {
    llvm::raw_string_ostream stream(text);
    module.print(stream);
    for (Pending &each : pending)
      each.name = each.kernel.getSymName().str();
  }
  std::atomic<size_t> next = 0;
  std::vector<std::thread> others;
  for (size_t i = 0; i < helpers; ++i)
    others.emplace_back([&] {
      Helper helper(text, target);
      for (size_t k = next++; k < pending.size(); k = next++)
        *pending[k].result = helper.compile(pending[k].name);
    });
  for (size_t k = next++; k < pending.size(); k = next++)
    *pending[k].result = generateCode(analyses.of(pending[k].kernel), target);
  for (std::thread &other : others)
    other.join();
}

Expected<std::vector<Artifact>> kernelforge::compileKernels(ModuleOp module, const Target &target,
                                                            const ObjectCache &cache,
                                                            KernelAnalyses &analyses, int threads) {
  SmallVector<KernelOp> kernels(module.getOps<KernelOp>());
  loadStages(module.getContext(), target);
  std::vector<Expected<Artifact>> artifacts(kernels.size());
  std::vector<Pending> pending;
  for (auto [kernel, artifact] : llvm::zip(kernels, artifacts)) {
    if (!kernel.isGenerated()) {
      artifact = libraryArtifact(kernel);
      continue;
    }
    auto key = objectKeyOf(kernel, target);
    if (auto found = key ? cache.find(*key) : std::nullopt)
      artifact = std::move(*found);
    else if (kernel.getCode()) // whose functions are in this module
      artifact = generateCode(analyses.of(kernel), target);
    else
      pending.push_back({kernel, std::move(key), &artifact});
  }
  compileAll(module, pending, target, threads, analyses);
  for (const Pending &each : pending)
    if (*each.result && each.key)
      cache.store(*each.key, **each.result);
  std::vector<Artifact> made;
  for (auto [kernel, compiled] : llvm::zip(kernels, artifacts)) {
    KF_TRY(Artifact artifact, std::move(compiled));
    if (kernel.isGenerated() && demandsResources(kernel)) {
      KF_TRY(const KernelResources resources, generatorOf(target).resources(artifact.code, target));
      KF_CHECK(checkDemands(kernel, resources));
    }
    artifact.kernel = kernel.getSymName().str();
    artifact.cost = analyses.of(kernel).cost();
    artifact.scheduleSource = kernel.getScheduleSource().value_or("analytic").str();
    made.push_back(std::move(artifact));
  }
  return made;
}
