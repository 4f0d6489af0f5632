#include "kernelforge/compiler/Session.h"

#include "kernelforge/backend/DeviceTiming.h"
#include "kernelforge/backend/FreeMemory.h"
#include "kernelforge/compiler/KernelCompiler.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/Planner.h"
#include "kernelforge/compiler/ProgramBuilder.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/ir/WeightLayouts.h"
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

/// One function, with what its arguments are bound to.
struct LoadedFunction {
  std::vector<std::string> names; ///< of tensor and cache arguments
  std::vector<Type> types;
  std::vector<BufferRef> arguments; ///< what they are bound to
  std::shared_ptr<const Program> program;
  std::unique_ptr<Executable> executable;

  /// For the arguments as they are bound and these results; null where that has changed.
  std::unique_ptr<BoundProgram> bound;
  std::vector<std::span<std::byte>> boundResults;
  std::vector<BufferRef> results; ///< where the device writes them
};

/// Memory of the host's that is bound.
struct HostMemory {
  std::span<std::byte> bytes;
  /// What a device with memory of its own was given last; empty where that is not kept.
  std::vector<std::byte> given = {};
};

/// Up to so many bytes are kept and compared, and copied where they are others: half of what a step
/// of a decoder reads is as it was in the step before, and a copy takes the device longer.
constexpr size_t mostCompared = size_t(64) << 10;

bool isSame(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.data() == b.data() && a.size() == b.size();
}

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
  std::unique_ptr<Device> device;
  BufferRef arena, packArena; ///< each shared by its functions, which run one after another
  std::map<std::string, LoadedFunction> functions, packFunctions;
  std::map<std::string, BufferRef> packed;
  /// What is bound of the host's, by name.
  std::map<std::string, HostMemory> hostMemory;
  std::map<std::string, std::pair<ElementType, std::span<const std::byte>>> weights;
  CompileStatistics statistics;

  PipelineOptions pipeline() const {
    return {options.target, threads, options.fuse, options.dumpFolder, options.records};
  }

  Status loadFunctions(ModuleOp from, KernelAnalyses &analyses,
                       std::map<std::string, LoadedFunction> &into, BufferRef &intermediates);
  Status openDevice();
  Status loadPrograms(std::map<std::string, LoadedFunction> &loaded, BufferRef &intermediates);
  Status buildPackModule();
  void bind(const std::string &name, const BufferRef &buffer, bool packed);
  Expected<LoadedFunction *> find(const std::string &name);
  Expected<LoadedFunction *> runnable(const std::string &name);
  Status bindResults(LoadedFunction &function, std::span<const std::span<std::byte>> results);
  Status upload(const LoadedFunction &function, std::span<const std::span<std::byte>> results,
                bool keepResults);
  Status downloadWritten(Ticket after, const LoadedFunction &function,
                         std::span<const int64_t> sizes,
                         std::span<const std::span<std::byte>> results);
  Status runCompiled(LoadedFunction &function, std::span<const int64_t> sizes,
                     std::span<const std::span<std::byte>> results, const RunOptions &options);
  bool isPackedByHost(RankedTensorType type) const;
  Expected<BufferRef> pack(RankedTensorType type, std::span<const std::byte> data);
};

Session::Session(std::unique_ptr<Implementation> implementation)
    : implementation(std::move(implementation)) {}
Session::~Session() = default;

Expected<std::unique_ptr<Session>> Session::create(SessionOptions options) {
  auto implementation = std::make_unique<Implementation>();
  implementation->threads = options.threads > 0 ? options.threads : host().physicalCores;
  implementation->options = std::move(options);
  KF_CHECK(implementation->openDevice());
  implementation->context = std::make_unique<MLIRContext>();
  // One module at a time: MLIR's own threads would only cost their start.
  implementation->context->disableMultithreading();
  // What is compiled may have been emitted for another target; only this one's is needed at once.
  DialectRegistry registry;
  registerAllStages(registry);
  implementation->context->appendDialectRegistry(registry);
  loadStages(implementation->context.get(), implementation->options.target);
  return std::unique_ptr<Session>(new Session(std::move(implementation)));
}

MLIRContext &Session::context() { return *implementation->context; }
ModuleOp Session::module() { return *implementation->module; }
const CompileStatistics &Session::statistics() const { return implementation->statistics; }
const SessionOptions &Session::options() const { return implementation->options; }
Device &Session::device() { return *implementation->device; }
const Device &Session::device() const { return *implementation->device; }

int64_t Session::packedBytes() const {
  int64_t bytes = 0;
  for (const auto &[name, buffer] : implementation->packed)
    bytes += buffer.bytes;
  return bytes;
}

int64_t Session::scratchBytes() const {
  // Programs of one device may share their scratch: the largest counts.
  int64_t most = 0;
  for (const auto &[name, function] : implementation->functions)
    most = std::max(most, function.executable->scratchBytes());
  return most + implementation->arena.bytes;
}

/// Unusable where the intermediates of a program, which lie there for the largest sizes, are beyond
/// the memory that they would lie in.
static Status checkMemory(const Program &program, const Device &device) {
  KF_TRY(const FreeMemory free, freeMemory(device));
  if (free.bytes == 0 || program.arenaBytes <= free.bytes)
    return {};
  std::vector<std::string> maxima;
  for (const ProgramSize &size : program.sizes)
    maxima.push_back(size.name + " = " + std::to_string(size.max));
  return unusable("function does not fit in memory", "@" + program.function,
                  "its intermediate results take " + std::to_string(program.arenaBytes) + " bytes" +
                      (maxima.empty() ? "" : " at " + llvm::join(maxima, ", ")) + ", " + free.text,
                  maxima.empty() ? "compute it in smaller parts"
                                 : "give the size a smaller maximum, as in #transformer.size<\"" +
                                       program.sizes.front().name + "\", 1 to 512>");
}

Status Session::Implementation::loadFunctions(ModuleOp from, KernelAnalyses &analyses,
                                              std::map<std::string, LoadedFunction> &into,
                                              BufferRef &intermediates) {
  ObjectCache cache = ObjectCache::disabled();
  if (options.cache) {
    auto folder = objectsDirectory();
    if (folder)
      cache = ObjectCache::open(*folder);
    else
      logger().warn("{}", folder.error().line());
  }
  KF_TRY(const std::vector<Artifact> artifacts,
         compileKernels(from, options.target, cache, analyses, threads));
  statistics.kernels += static_cast<int>(artifacts.size());
  for (const Artifact &artifact : artifacts) {
    statistics.fromCache += artifact.fromCache;
    ++statistics.scheduleSources[artifact.scheduleSource];
    if (artifact.library)
      ++statistics.variants[artifact.variant];
  }
  for (func::FuncOp function : programFunctions(from)) {
    LoadedFunction &loaded = into[function.getSymName().str()];
    for (BlockArgument argument : function.getArguments())
      if (!argument.getType().isIndex()) {
        loaded.names.push_back(argumentName(function, argument.getArgNumber()));
        loaded.types.push_back(argument.getType());
      }
    loaded.arguments.resize(loaded.names.size());
    KF_TRY(Program program, buildProgram(function, artifacts, options.target.limits));
    KF_CHECK(checkMemory(program, *device));
    loaded.program = std::make_shared<const Program>(std::move(program));
  }
  KF_CHECK(loadPrograms(into, intermediates));
  // Code that a driver has finished: only now is it known what registers it takes.
  for (const auto &[name, loaded] : into) {
    const std::vector<KernelResources> resources = loaded.executable->resources();
    for (size_t i = 0; i < resources.size(); ++i)
      if (resources[i].registers >= 0)
        KF_CHECK(checkDemands(from.lookupSymbol<KernelOp>(loaded.program->artifacts[i].kernel),
                              resources[i]));
  }
  return {};
}

Status Session::Implementation::openDevice() {
  options.device.threads = options.threads;
  options.device.poison = options.poison;
  KF_TRY(device, options.openDevice ? options.openDevice()
                                    : createDevice(options.target.kind, options.device));
  if (options.target.device.empty())
    options.target.device = device->info().identity();
  return generatorOf(options.target).checkRunnable(options.target, device->info());
}

Status Session::Implementation::loadPrograms(std::map<std::string, LoadedFunction> &loaded,
                                             BufferRef &intermediates) {
  std::vector<std::shared_ptr<const Program>> programs;
  int64_t arenaBytes = 0;
  for (const auto &[name, function] : loaded) {
    programs.push_back(function.program);
    arenaBytes = std::max(arenaBytes, function.program->arenaBytes);
  }
  KF_TRY(std::vector<std::unique_ptr<Executable>> executables, device->load(programs));
  auto next = executables.begin();
  for (auto &[name, function] : loaded)
    function.executable = std::move(*next++);
  KF_TRY(intermediates, device->allocate(arenaBytes, MemoryUse::Arena));
  return {};
}

Status Session::reopen() {
  Implementation &s = *implementation;
  // What belongs to the lost device goes before it does.
  for (auto *functions : {&s.functions, &s.packFunctions})
    for (auto &[name, function] : *functions) {
      function.bound.reset();
      function.results.clear();
      function.arguments.assign(function.names.size(), {});
      function.executable.reset();
    }
  s.packed.clear();
  s.arena = s.packArena = {};
  s.device.reset();
  KF_CHECK(s.openDevice());
  KF_CHECK(s.loadPrograms(s.functions, s.arena));
  KF_CHECK(s.loadPrograms(s.packFunctions, s.packArena));
  for (const auto &[name, weight] : std::map(s.weights))
    KF_CHECK(bindWeight(name, weight.first, weight.second));
  for (const auto &[name, memory] : std::map(s.hostMemory))
    KF_CHECK(bind(name, memory.bytes));
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
      if (isPackedByHost(packedType) || !made.emplace(packFunctionName(packedType), true).second)
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
  KernelAnalyses analyses;
  KF_CHECK(runToStage(*packModule, Stage::Scheduled,
                      {options.target, threads, true, {}, options.records}, analyses));
  return loadFunctions(*packModule, analyses, packFunctions, packArena);
}

Status Session::compile(OwningOpRef<ModuleOp> module) {
  auto start = std::chrono::steady_clock::now();
  Implementation &s = *implementation;
  if (s.module)
    return unusable("module cannot be compiled", "session", "a session compiles once",
                    "make another session");
  s.module = std::move(module);
  KernelAnalyses analyses;
  KF_CHECK(runToStage(*s.module, Stage::Scheduled, s.pipeline(), analyses));
  KF_CHECK(s.loadFunctions(*s.module, analyses, s.functions, s.arena));
  if (s.functions.empty())
    return unusable("module cannot be run", "module",
                    "it has no function that gives a result or writes a cache",
                    "return what the function computes");
  KF_CHECK(s.buildPackModule());
  s.statistics.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return {};
}

/// What a kernel writes is bound whole: a weight that is larger than what the device binds at once
/// is packed by the host.
bool Session::Implementation::isPackedByHost(RankedTensorType type) const {
  const auto most = static_cast<uint64_t>(options.target.limits.bindingBytes);
  return most > 0 &&
         std::max(weightBytes(type).value_or(0), weightBytes(rowMajor(type)).value_or(0)) > most;
}

Expected<BufferRef> Session::Implementation::pack(RankedTensorType type,
                                                  std::span<const std::byte> data) {
  const uint64_t bytes = *weightBytes(type);
  if (isPackedByHost(type)) {
    KF_TRY(PageMemory memory, PageMemory::allocate(bytes));
    packWeight(weightLayoutOf(type), *elementTypeOf(type), data.data(), type.getDimSize(0),
               type.getDimSize(1), memory.data());
    auto owner = std::make_shared<PageMemory>(std::move(memory));
    return device->import(owner->span(), MemoryUse::Weights, owner);
  }
  KF_TRY(BufferRef out, device->allocate(static_cast<int64_t>(bytes), MemoryUse::Weights));
  LoadedFunction &function = packFunctions.at(packFunctionName(type));
  KF_TRY(BufferRef input, device->import(data, MemoryUse::Transfer, nullptr));
  KF_TRY(auto bound, function.executable->bind({{input}, {out}, packArena}));
  KF_TRY(const Ticket ticket, bound->submit({}));
  KF_CHECK(device->wait(ticket));
  return out;
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
  s.weights[name] = {type, data};
  if (!layoutOf(declared)) {
    KF_TRY(const BufferRef buffer, s.device->import(data, MemoryUse::Weights, nullptr));
    s.bind(name, buffer, /*packed=*/false);
    return {};
  }
  KF_TRY(const BufferRef buffer, s.pack(declared, data));
  s.bind(name, buffer, /*packed=*/true);
  s.packed[name] = buffer;
  return {};
}

void Session::Implementation::bind(const std::string &name, const BufferRef &buffer, bool packed) {
  for (auto &[functionName, function] : functions)
    for (size_t i = 0; i < function.names.size(); ++i)
      if (function.names[i] == name && (packed || !layoutOf(function.types[i]))) {
        function.arguments[i] = buffer;
        function.bound.reset();
      }
}

void Session::bind(const std::string &name, const BufferRef &buffer) {
  implementation->hostMemory.erase(name);
  implementation->bind(name, buffer, /*packed=*/false);
}

Status Session::bind(const std::string &name, std::span<std::byte> data) {
  KF_TRY(const BufferRef buffer,
         implementation->device->import(data, MemoryUse::Transfer, nullptr));
  bind(name, buffer);
  implementation->hostMemory[name] = {data};
  return {};
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

std::vector<KernelResources> Session::resources(const std::string &function) const {
  auto found = implementation->functions.find(function);
  return found == implementation->functions.end() ? std::vector<KernelResources>()
                                                  : found->second.executable->resources();
}

/// Binds the function to its arguments and these results, where it is not bound to them.
Status Session::Implementation::bindResults(LoadedFunction &function,
                                            std::span<const std::span<std::byte>> results) {
  if (function.bound && std::ranges::equal(results, function.boundResults, isSame))
    return {};
  function.bound.reset();
  function.results.clear();
  for (std::span<std::byte> result : results) {
    KF_TRY(function.results.emplace_back(),
           device->info().sharesHostMemory
               ? device->import(result, MemoryUse::Transfer, nullptr)
               : device->allocate(static_cast<int64_t>(result.size()), MemoryUse::Transfer));
  }
  KF_TRY(function.bound, function.executable->bind({function.arguments, function.results, arena}));
  function.boundResults.assign(results.begin(), results.end());
  return {};
}

/// The host may have written what is bound of its memory. Where that is asked for, what the
/// function must write holds what the caller put there, and intermediates NaN.
Status Session::Implementation::upload(const LoadedFunction &function,
                                       std::span<const std::span<std::byte>> results,
                                       bool keepResults) {
  for (size_t i = 0; i < function.names.size(); ++i)
    if (auto host = hostMemory.find(function.names[i]); host != hostMemory.end()) {
      auto &[bytes, given] = host->second;
      // The device writes to caches itself.
      const bool isKept = bytes.size() <= mostCompared && !isa<CacheType>(function.types[i]);
      if (isKept && std::ranges::equal(bytes, given))
        continue;
      KF_CHECK(device->upload(bytes, function.arguments[i]));
      if (isKept)
        given.assign(bytes.begin(), bytes.end());
    }
  if (keepResults)
    for (size_t i = 0; i < results.size(); ++i)
      KF_CHECK(device->upload(results[i], function.results[i]));
  if (options.poison) {
    // As the device of the CPU does it: all ones are NaN in every type of float.
    const std::vector<std::byte> ones(static_cast<size_t>(function.program->arenaBytes),
                                      std::byte(0xff));
    KF_CHECK(device->upload(
        ones, {arena.memory, arena.offset, static_cast<int64_t>(function.program->arenaBytes)}));
  }
  return {};
}

/// Brings results, and caches that are bound of the host's memory, to where the caller wants them:
/// as many bytes as the function writes at these sizes. Waits for these copies and for `after`, all
/// at once: each wait costs a device with a queue what a small kernel takes.
Status Session::Implementation::downloadWritten(Ticket after, const LoadedFunction &function,
                                                std::span<const int64_t> sizes,
                                                std::span<const std::span<std::byte>> results) {
  Ticket last = after;
  const Program &program = *function.program;
  auto download = [&](const BufferRef &from, std::span<std::byte> to) -> Status {
    KF_TRY(last, device->download(from, to));
    return {};
  };
  Status status;
  for (size_t i = 0; status && i < results.size(); ++i) {
    const auto bytes = checkedExtent(program.buffers[program.results[i]].bytes, sizes);
    const uint64_t written = std::min<uint64_t>(results[i].size(), bytes.value_or(UINT64_MAX));
    const BufferRef &from = function.results[i];
    status = download({from.memory, from.offset, static_cast<int64_t>(written)},
                      results[i].first(written));
  }
  for (size_t i = 0; status && i < function.names.size(); ++i)
    if (auto host = hostMemory.find(function.names[i]);
        host != hostMemory.end() && isa<CacheType>(function.types[i]))
      status = download(function.arguments[i], host->second.bytes);
  // Copies that are under way write to the caller's memory: they are over before an error is told.
  const Status over = device->wait(last);
  KF_CHECK(status);
  return over;
}

Status Session::Implementation::runCompiled(LoadedFunction &function,
                                            std::span<const int64_t> sizes,
                                            std::span<const std::span<std::byte>> results,
                                            const RunOptions &options) {
  KF_CHECK(bindResults(function, results));
  const bool isApart = !device->info().sharesHostMemory;
  if (isApart)
    KF_CHECK(upload(function, results, options.keepResults));
  Ticket ticket = 0;
  if (options.launchNanoseconds) {
    KF_TRY(*options.launchNanoseconds, function.bound->runTimed(sizes, {options.cancel}));
  } else {
    KF_TRY(ticket, function.bound->submit(sizes, {options.cancel}));
  }
  if (isApart)
    return downloadWritten(ticket, function, sizes, results);
  // 0 is over already: a small kernel takes no longer than asking.
  return ticket != 0 ? device->wait(ticket) : Status();
}

Expected<LoadedFunction *> Session::Implementation::find(const std::string &name) {
  auto found = functions.find(name);
  if (found == functions.end())
    return unusable("function cannot be run", name, "the compiled module has none of that name");
  return &found->second;
}

/// Unusable where one of `arguments`, which are those of `function`, is nothing.
static Status checkBound(const std::string &name, const LoadedFunction &function,
                         std::span<const BufferRef> arguments) {
  for (size_t i = 0; i < arguments.size(); ++i)
    if (!arguments[i].memory)
      return unusable(
          "function cannot be run", name, "argument '" + function.names[i] + "' is not bound",
          layoutOf(function.types[i]) ? "it is a packed weight: bindWeight() packs it" : "");
  return {};
}

Expected<LoadedFunction *> Session::Implementation::runnable(const std::string &name) {
  KF_TRY(LoadedFunction *const function, find(name));
  KF_CHECK(checkBound(name, *function, function->arguments));
  return function;
}

Status Session::run(const std::string &name, std::span<const int64_t> sizes,
                    std::span<const std::span<std::byte>> results, const RunOptions &options) {
  KF_TRY(LoadedFunction *const function, implementation->runnable(name));
  return implementation->runCompiled(*function, sizes, results, options);
}

Expected<std::unique_ptr<BoundProgram>>
Session::bindOnDevice(const std::string &name, const std::map<std::string, BufferRef> &others,
                      std::vector<BufferRef> results) {
  KF_TRY(LoadedFunction *const function, implementation->find(name));
  std::vector<BufferRef> arguments = function->arguments;
  for (size_t i = 0; i < arguments.size(); ++i)
    if (auto other = others.find(function->names[i]); other != others.end())
      arguments[i] = other->second;
  KF_CHECK(checkBound(name, *function, arguments));
  return function->executable->bind(
      {std::move(arguments), std::move(results), implementation->arena});
}

Expected<TimedCalls> Session::timed(const std::string &name, std::span<const int64_t> sizes,
                                    std::span<const std::span<std::byte>> results) {
  Implementation &s = *implementation;
  KF_TRY(LoadedFunction *const function, s.runnable(name));
  if (!s.device->info().hasOwnClock())
    return byHostClock([this, name, sizes, results] { return run(name, sizes, results); });
  KF_CHECK(s.bindResults(*function, results));
  KF_CHECK(s.upload(*function, results, /*keepResults=*/false));
  return TimedCalls([&s, function, sizes, results](int64_t calls) -> Expected<CallTimes> {
    KF_CHECK(s.bindResults(*function, results));
    BoundProgram *const program = function->bound.get();
    size_t turn = 0;
    return timedRuns(*s.device, {&program, 1}, sizes, calls, turn);
  });
}
