#include "kernelforge/problem/ProgramRun.h"

#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/TargetFacts.h"
#include "kernelforge/problem/KernelFunction.h"
#include "kernelforge/problem/ModuleText.h"
#include "kernelforge/problem/Verification.h"

#include <algorithm>

#include <fmt/format.h>

using namespace mlir;

namespace kernelforge {

namespace {

Status checkConvention(const ProgramFile &file) {
  KF_TRY(const int here, conventionOf(file.target.kind));
  if (file.convention == here)
    return {};
  return missing("program cannot run here", "@" + file.function,
                 fmt::format("its code for {} has calling convention {} where this build has {} "
                             "(it was written by {})",
                             file.target.kind, file.convention, here, file.madeBy),
                 writeProgramAgain);
}

} // namespace

struct ProgramRun::Implementation {
  ProgramFile file;
  MLIRContext context{MLIRContext::Threading::DISABLED};
  OwningOpRef<ModuleOp> module; ///< holds the types of the signature
  FunctionSignature signature;
  std::shared_ptr<const Program> program;

  std::unique_ptr<Device> device;
  std::unique_ptr<Executable> executable;

  FunctionData data;
  std::vector<PageMemory> packed; ///< weights in their layout, by argument; empty for others
  std::vector<TensorData>
      caches; ///< written ones as they were bound, by argument; empty for others
  std::vector<BufferRef> arguments, results;
  BufferRef arena;
  std::vector<int64_t> sizes; ///< in the order of the program's
  std::unique_ptr<BoundProgram> bound;

  Status readModule();
  bool canLieIn(WeightLayout layout, const FunctionArgument &argument) const;
  Expected<BufferRef> bindArgument(size_t index);
  Status fillWithNan(const BufferRef &buffer);
  Status downloadOutputs();
};

ProgramRun::ProgramRun(std::unique_ptr<Implementation> implementation)
    : implementation(std::move(implementation)) {}
ProgramRun::~ProgramRun() = default;

const ProgramFile &ProgramRun::file() const { return implementation->file; }
const Program &ProgramRun::program() const { return *implementation->program; }
const FunctionSignature &ProgramRun::signature() const { return implementation->signature; }
const DeviceInfo &ProgramRun::device() const { return implementation->device->info(); }
const FunctionData &ProgramRun::data() const { return implementation->data; }

bool ProgramRun::Implementation::canLieIn(WeightLayout layout,
                                          const FunctionArgument &argument) const {
  if (layout == WeightLayout::RowMajor)
    return true;
  return !argument.isCache() && argument.tensor().getRank() == 2 &&
         (layout != WeightLayout::Planes || info(*elementTypeOf(argument.tensor())).isQuantized());
}

Status ProgramRun::Implementation::readModule() {
  DialectRegistry registry;
  registerAllStages(registry);
  context.appendDialectRegistry(registry);
  KF_TRY(module, parseModuleText(&context, file.module, "module of the program file"));
  addMissingKernelFunctions(*module);
  KF_TRY(func::FuncOp function, findFunction(*module, file.function));
  KF_TRY(signature, readSignature(function));
  auto doesNotFit = [](std::string why) {
    return unusable("program file is not usable", "", std::move(why), writeProgramAgain);
  };
  if (signature.arguments.size() != program->arguments.size() ||
      signature.results.size() != program->results.size())
    return doesNotFit("its program has other arguments and results than its module");
  for (const ProgramSize &size : program->sizes)
    if (std::ranges::find(signature.sizes, size.name, &ProgramSize::name) == signature.sizes.end())
      return doesNotFit(fmt::format("its module has no size '{}'", size.name));
  for (size_t i = 0; i < signature.arguments.size(); ++i)
    if (!canLieIn(file.layouts[i], signature.arguments[i]))
      return doesNotFit(fmt::format("'{}' is said to lie in {} and is no weight that can",
                                    signature.arguments[i].name, nameOf(file.layouts[i])));
  return {};
}

Expected<std::unique_ptr<ProgramRun>> ProgramRun::create(ProgramFile file,
                                                         const DeviceOptions &options) {
  KF_CHECK(checkConvention(file));
  auto made = std::make_unique<Implementation>();
  made->file = std::move(file);
  made->program = std::make_shared<const Program>(std::move(made->file.program));
  made->file.program = {};
  KF_CHECK(made->readModule());
  const Target &target = made->file.target;
  KF_TRY(made->device, createDevice(target.kind, options));
  KF_CHECK(generatorOf(target).checkRunnable(target, made->device->info()));
  KF_TRY(auto executables, made->device->load({&made->program, 1}));
  made->executable = std::move(executables.front());
  return std::unique_ptr<ProgramRun>(new ProgramRun(std::move(made)));
}

/// An argument on the device. What is only read may lie where the data is; a cache that is written
/// has memory of its own, because each run begins with what was bound.
Expected<BufferRef> ProgramRun::Implementation::bindArgument(size_t index) {
  const TensorData &argument = data.arguments[index];
  if (signature.arguments[index].written) {
    KF_TRY(caches[index], argument.clone());
    return device->allocate(static_cast<int64_t>(argument.memory.size()), MemoryUse::Cache);
  }
  if (file.layouts[index] == WeightLayout::RowMajor)
    return device->import(argument.memory.span(), MemoryUse::Transfer, nullptr);
  KF_TRY(packed[index], packWeight(argument, file.layouts[index]));
  return device->import(packed[index].span(), MemoryUse::Weights, nullptr);
}

Status ProgramRun::bind(FunctionData data) {
  Implementation &s = *implementation;
  s.bound.reset();
  s.arguments.clear();
  s.results.clear();
  s.packed.clear();
  s.packed.resize(data.arguments.size());
  s.caches.clear();
  s.caches.resize(data.arguments.size());
  s.data = std::move(data);
  s.sizes.clear();
  for (const ProgramSize &size : s.program->sizes)
    s.sizes.push_back(s.data.sizes.at(size.name));
  for (size_t i = 0; i < s.data.arguments.size(); ++i) {
    KF_TRY(s.arguments.emplace_back(), s.bindArgument(i));
  }
  for (const TensorData &result : s.data.results) {
    KF_TRY(s.results.emplace_back(),
           s.device->allocate(static_cast<int64_t>(result.memory.size()), MemoryUse::Transfer));
  }
  KF_TRY(s.arena, s.device->allocate(s.program->arenaBytes, MemoryUse::Arena));
  KF_TRY(s.bound, s.executable->bind({s.arguments, s.results, s.arena}));
  return {};
}

/// All ones are NaN in every type of float.
Status ProgramRun::Implementation::fillWithNan(const BufferRef &buffer) {
  const std::vector<std::byte> ones(static_cast<size_t>(buffer.bytes), std::byte(0xff));
  KF_TRY(const Ticket ticket, device->upload(ones, buffer));
  return device->wait(ticket);
}

Status ProgramRun::Implementation::downloadOutputs() {
  Ticket last = 0;
  auto download = [&](const BufferRef &from, std::span<std::byte> to) -> Status {
    KF_TRY(last, device->download(from, to));
    return {};
  };
  Status status;
  for (size_t i = 0; status && i < results.size(); ++i)
    status = download(results[i], data.results[i].memory.span());
  for (size_t i = 0; status && i < arguments.size(); ++i)
    if (signature.arguments[i].written)
      status = download(arguments[i], data.arguments[i].memory.span());
  // Copies that are under way write to `data`: they are over before an error is told.
  const Status over = device->wait(last);
  KF_CHECK(status);
  return over;
}

Status ProgramRun::run(const std::atomic<bool> *cancel) {
  Implementation &s = *implementation;
  for (size_t i = 0; i < s.arguments.size(); ++i)
    if (s.signature.arguments[i].written)
      KF_CHECK(s.device->upload(s.caches[i].memory.span(), s.arguments[i]));
  for (const BufferRef &result : s.results)
    KF_CHECK(s.fillWithNan(result));
  KF_CHECK(s.fillWithNan(s.arena));
  KF_TRY(const Ticket ticket, s.bound->submit(s.sizes, {cancel}));
  KF_CHECK(s.device->wait(ticket));
  return s.downloadOutputs();
}

Expected<std::vector<int64_t>> ProgramRun::runTimed(const std::atomic<bool> *cancel) {
  return implementation->bound->runTimed(implementation->sizes, {cancel});
}

Expected<std::vector<double>> ProgramRun::time(int rounds) {
  BoundProgram *bound = implementation->bound.get();
  KF_TRY(const auto seconds,
         implementation->device->time({&bound, 1}, implementation->sizes, rounds));
  std::vector<double> nanoseconds;
  for (double sample : seconds.front())
    nanoseconds.push_back(sample * 1e9);
  return nanoseconds;
}

} // namespace kernelforge
