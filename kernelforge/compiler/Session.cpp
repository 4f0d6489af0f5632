#include "kernelforge/compiler/Session.h"

#include "kernelforge/backend/cpu/CpuBackend.h"
#include "kernelforge/backend/reference/Interpreter.h"
#include "kernelforge/compiler/KernelCompiler.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/Planner.h"
#include "kernelforge/compiler/ProgramBuilder.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/kernels/Layout.h"
#include "kernelforge/support/Host.h"
#include "kernelforge/support/Log.h"
#include "kernelforge/support/PageMemory.h"
#include "kernelforge/support/Paths.h"

#include <algorithm>
#include <chrono>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

namespace {

/// One function on one of the backends, with what its arguments are bound to.
struct LoadedFunction {
  std::vector<std::string> names; ///< of tensor and cache arguments
  std::vector<Type> types;
  std::vector<void *> pointers;
  std::shared_ptr<const Program> program;
  std::unique_ptr<Executable> executable;
  std::optional<Interpreter> interpreter;
};

RankedTensorType rowMajor(RankedTensorType type) { return withLayout(type, {}); }

/// Name of the function that packs weights of `type`: one for each shape and element type.
std::string packFunctionName(RankedTensorType type) {
  auto element = elementTypeOf(type);
  return "pack_" + std::string(info(*element).name) + "_" + std::to_string(type.getDimSize(0)) +
         "x" + std::to_string(type.getDimSize(1));
}

} // namespace

struct Session::Implementation {
  SessionOptions options;
  int threads = 1;
  std::unique_ptr<MLIRContext> context;
  OwningOpRef<ModuleOp> module, packModule;
  std::unique_ptr<Backend> backend;
  std::map<std::string, LoadedFunction> functions, packFunctions;
  std::map<std::string, PageMemory> packed;
  CompileStatistics statistics;
  int64_t packedBytes = 0;

  PipelineOptions pipeline() const {
    return {options.target, threads, options.fuse, options.dumpFolder, options.records};
  }

  Status loadFunctions(ModuleOp from, std::map<std::string, LoadedFunction> &into);
  Status buildPackModule();
  void bind(const std::string &name, void *data, bool packed);
  Status pack(RankedTensorType type, std::span<const std::byte> data, std::byte *out);
};

Session::Session(std::unique_ptr<Implementation> implementation)
    : implementation(std::move(implementation)) {}
Session::~Session() = default;

Expected<std::unique_ptr<Session>> Session::create(SessionOptions options) {
  auto implementation = std::make_unique<Implementation>();
  implementation->threads = options.threads > 0 ? options.threads : host().physicalCores;
  if (options.backend == BackendKind::Cpu) {
    KF_CHECK(checkRunnable(options.target));
    CpuOptions cpu;
    cpu.threads = options.threads;
    cpu.poison = options.poison;
    KF_TRY(implementation->backend, createCpuBackend(cpu));
  }
  implementation->context = std::make_unique<MLIRContext>();
  // One module at a time: MLIR's own threads would only cost their start.
  implementation->context->disableMultithreading();
  loadAllStages(implementation->context.get());
  implementation->options = std::move(options);
  return std::unique_ptr<Session>(new Session(std::move(implementation)));
}

MLIRContext &Session::context() { return *implementation->context; }
ModuleOp Session::module() { return *implementation->module; }
const CompileStatistics &Session::statistics() const { return implementation->statistics; }
const SessionOptions &Session::options() const { return implementation->options; }
int64_t Session::packedBytes() const { return implementation->packedBytes; }

int64_t Session::scratchBytes() const {
  // Programs of one backend may share their memory: the largest counts.
  int64_t most = 0;
  for (const auto &[name, function] : implementation->functions)
    if (function.executable) {
      MemoryUse use = function.executable->memory();
      most = std::max(most, use.arenaBytes + use.scratchBytes);
    }
  return most;
}

/// Unusable where the intermediates of a program, which lie there for the largest sizes, are beyond
/// this machine's memory.
static Status checkMemory(const Program &program) {
  const int64_t available = host().memoryBytes;
  if (available == 0 || program.arenaBytes <= available)
    return {};
  std::vector<std::string> maxima;
  for (const ProgramSize &size : program.sizes)
    maxima.push_back(size.name + " = " + std::to_string(size.max));
  return unusable("function does not fit in memory", "@" + program.function,
                  "its intermediate results take " + std::to_string(program.arenaBytes) + " bytes" +
                      (maxima.empty() ? "" : " at " + llvm::join(maxima, ", ")) +
                      ", this machine has " + std::to_string(available),
                  maxima.empty() ? "compute it in smaller parts"
                                 : "give the size a smaller maximum, as in #transformer.size<\"" +
                                       program.sizes.front().name + "\", 1 to 512>");
}

Status Session::Implementation::loadFunctions(ModuleOp from,
                                              std::map<std::string, LoadedFunction> &into) {
  std::vector<Artifact> artifacts;
  if (options.backend == BackendKind::Cpu) {
    ObjectCache cache = ObjectCache::disabled();
    if (options.cache) {
      auto folder = objectsDirectory();
      if (folder)
        cache = ObjectCache::open(*folder);
      else
        logger().warn("{}", folder.error().line());
    }
    KF_TRY(artifacts, compileKernels(from, options.target, cache));
    statistics.kernels += static_cast<int>(artifacts.size());
    for (const Artifact &artifact : artifacts)
      statistics.fromCache += artifact.fromCache;
    for (const Artifact &artifact : artifacts)
      ++statistics.scheduleSources[artifact.scheduleSource];
    for (const Artifact &artifact : artifacts)
      if (artifact.host)
        ++statistics.variants[artifact.variant];
  }
  for (func::FuncOp function : programFunctions(from)) {
    LoadedFunction loaded;
    for (BlockArgument argument : function.getArguments())
      if (!argument.getType().isIndex()) {
        loaded.names.push_back(argumentName(function, argument.getArgNumber()));
        loaded.types.push_back(argument.getType());
      }
    loaded.pointers.assign(loaded.names.size(), nullptr);
    if (options.backend == BackendKind::Cpu) {
      KF_TRY(Program program, buildProgram(function, artifacts));
      KF_CHECK(checkMemory(program));
      loaded.program = std::make_shared<const Program>(std::move(program));
      KF_TRY(loaded.executable, backend->load(loaded.program));
    } else {
      KF_TRY(Interpreter interpreter, Interpreter::create(from, function.getSymName()));
      loaded.interpreter = std::move(interpreter);
    }
    into.emplace(function.getSymName().str(), std::move(loaded));
  }
  return {};
}

/// Packing is a kernel: one function `pack` per weight shape and type that has a layout.
Status Session::Implementation::buildPackModule() {
  OpBuilder builder(context.get());
  Location loc = builder.getUnknownLoc();
  packModule = ModuleOp::create(loc);
  std::map<std::string, bool> made;
  for (const auto &[name, function] : functions)
    for (Type type : function.types) {
      if (!layoutOf(type))
        continue;
      auto packedType = cast<RankedTensorType>(type);
      if (!made.emplace(packFunctionName(packedType), true).second)
        continue;
      builder.setInsertionPointToEnd(packModule->getBody());
      auto pack = builder.create<func::FuncOp>(
          loc, packFunctionName(packedType),
          builder.getFunctionType({rowMajor(packedType)}, {packedType}));
      Block *body = pack.addEntryBlock();
      builder.setInsertionPointToStart(body);
      Value result = builder.create<PackOp>(loc, packedType, body->getArgument(0));
      builder.create<func::ReturnOp>(loc, result);
    }
  if (made.empty())
    return {};
  KF_CHECK(runToStage(*packModule, Stage::Scheduled,
                      {options.target, threads, true, {}, options.records}));
  return loadFunctions(*packModule, packFunctions);
}

Status Session::compile(OwningOpRef<ModuleOp> module) {
  auto start = std::chrono::steady_clock::now();
  Implementation &s = *implementation;
  if (s.module)
    return unusable("module cannot be compiled", "session", "a session compiles once",
                    "make another session");
  s.module = std::move(module);
  // The interpreter needs no schedules, and runs what no code generator knows.
  const bool compiled = s.options.backend == BackendKind::Cpu;
  KF_CHECK(runToStage(*s.module, compiled ? Stage::Scheduled : Stage::Fused, s.pipeline()));
  KF_CHECK(s.loadFunctions(*s.module, s.functions));
  if (s.functions.empty())
    return unusable("module cannot be run", "module",
                    "it has no function that gives a result or writes a cache",
                    "return what the function computes");
  if (compiled)
    KF_CHECK(s.buildPackModule());
  s.statistics.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return {};
}

Status Session::Implementation::pack(RankedTensorType type, std::span<const std::byte> data,
                                     std::byte *out) {
  if (options.backend == BackendKind::Reference) {
    packInterleaved(*elementTypeOf(type), data.data(), type.getDimSize(0), type.getDimSize(1), out);
    return {};
  }
  LoadedFunction &function = packFunctions.at(packFunctionName(type));
  void *argument = const_cast<std::byte *>(data.data()), *result = out;
  return function.executable->run(Bindings{{}, {&argument, 1}, {&result, 1}});
}

Status Session::bindWeight(const std::string &name, ElementType type,
                           std::span<const std::byte> data) {
  Implementation &s = *implementation;
  RankedTensorType declared;
  for (auto &[functionName, function] : s.functions)
    for (size_t i = 0; i < function.names.size(); ++i)
      if (function.names[i] == name) {
        auto type = dyn_cast<RankedTensorType>(function.types[i]);
        if (declared && type != declared)
          return unusable("weight cannot be bound", name,
                          "functions of the module declare it in different ways");
        declared = type;
      }
  if (!declared)
    return unusable("weight is not used", name, "no function of the module takes it");
  auto bytes = weightBytes(rowMajor(declared));
  if (elementTypeOf(declared) != type || bytes != data.size())
    return unusable("weight does not fit", name,
                    std::to_string(data.size()) + " bytes of " + std::string(info(type).name) +
                        " where the module takes " + std::to_string(bytes.value_or(0)) + " of " +
                        std::string(info(*elementTypeOf(declared)).name));
  if (!layoutOf(declared)) {
    bind(name, const_cast<std::byte *>(data.data()));
    return {};
  }
  uint64_t packedBytes = *weightBytes(declared);
  // A byte at least: a weight without elements has an address, too.
  KF_TRY(PageMemory memory, PageMemory::allocate(std::max<uint64_t>(packedBytes, 1)));
  KF_CHECK(s.pack(declared, data, memory.data()));
  s.bind(name, memory.data(), /*packed=*/true);
  s.packedBytes += static_cast<int64_t>(packedBytes);
  if (auto old = s.packed.find(name); old != s.packed.end())
    s.packedBytes -= static_cast<int64_t>(old->second.size());
  s.packed[name] = std::move(memory);
  return {};
}

/// The same memory may hold another weight than before.
static void forgetWeight(const Program &program, size_t argument) {
  if (program.buffers[program.arguments[argument]].kind != BufferKind::Weight)
    return;
  for (const Artifact &artifact : program.artifacts)
    if (artifact.host)
      artifact.host->forget();
}

void Session::Implementation::bind(const std::string &name, void *data, bool packed) {
  for (auto &[functionName, function] : functions)
    for (size_t i = 0; i < function.names.size(); ++i)
      if (function.names[i] == name && (packed || !layoutOf(function.types[i]))) {
        function.pointers[i] = data;
        if (function.program)
          forgetWeight(*function.program, i);
      }
}

void Session::bind(const std::string &name, void *data) {
  implementation->bind(name, data, /*packed=*/false);
}

std::vector<std::string> Session::arguments(const std::string &function) const {
  auto found = implementation->functions.find(function);
  return found == implementation->functions.end() ? std::vector<std::string>()
                                                  : found->second.names;
}

const Program *Session::program(const std::string &function) const {
  auto found = implementation->functions.find(function);
  return found == implementation->functions.end() ? nullptr : found->second.program.get();
}

Status Session::run(const std::string &name, std::span<const int64_t> sizes,
                    std::span<void *const> results, const RunOptions &options) {
  auto found = implementation->functions.find(name);
  if (found == implementation->functions.end())
    return unusable("function cannot be run", name, "the compiled module has none of that name");
  LoadedFunction &function = found->second;
  for (size_t i = 0; i < function.pointers.size(); ++i)
    if (!function.pointers[i])
      return unusable(
          "function cannot be run", name, "argument '" + function.names[i] + "' is not bound",
          layoutOf(function.types[i]) ? "it is a packed weight: bindWeight() packs it" : "");
  Bindings bindings{sizes, function.pointers, results};
  return function.executable ? function.executable->run(bindings, options)
                             : function.interpreter->run(bindings, options);
}
