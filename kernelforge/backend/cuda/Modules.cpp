#include "kernelforge/backend/cuda/Modules.h"

#include "kernelforge/backend/GpuLaunches.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace kernelforge::cuda {

namespace {

constexpr const char *cannotRun = "kernel cannot run on this GPU";

Status checkPhase(const Context &context, const Artifact &artifact, const Phase &phase) {
  const Limits &limits = context.info().limits;
  auto refuse = [&](std::string why) {
    return unusable(cannotRun, fmt::format("{}, phase {}", artifact.kernel, phase.entry),
                    std::move(why));
  };
  if (std::string why = blockObstacle(phase, limits, "shared"); !why.empty())
    return refuse(std::move(why));
  // More is not portable, and what blocks fit then, only a launch would say.
  constexpr int64_t mostOfCluster = 8;
  if (phase.cluster < 1 || phase.cluster > mostOfCluster)
    return refuse(fmt::format("its clusters have {} blocks where {} are the most", phase.cluster,
                              mostOfCluster));
  return {};
}

/// The first line of a compiler's log that says something, without its leading words.
std::string firstMessage(const char *log) {
  const std::string text = log;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    if (line.find_first_not_of(" \t\r") != std::string::npos)
      return line;
    begin = end + 1;
  }
  return "it gives no reason";
}

/// A line of a compiler's log that says that it left a kernel slower than it was made to be: matrix
/// products one behind another, or registers that stay where they are. Empty where there is none.
std::string slownessIn(std::string_view log) {
  while (!log.empty()) {
    const size_t end = std::min(log.find('\n'), log.size());
    const std::string_view line = log.substr(0, end);
    const auto has = [&](std::string_view word) { return line.find(word) != line.npos; };
    if ((has("wgmma") && has("serialized")) || (has("setmaxnreg") && has("ignored")))
      return std::string(line);
    log.remove_prefix(std::min(end + 1, log.size()));
  }
  return {};
}

Expected<Function> loadPhase(const Context &context, const Module &module, const Phase &phase,
                             KernelResources &resources) {
  const Api &api = context.api();
  Function function;
  KF_CHECK(
      context.check(api.cuModuleGetFunction(&function.handle, module.get(), phase.entry.c_str()),
                    cannotRun, phase.entry));
  auto attribute = [&](int which) -> Expected<int64_t> {
    int value = 0;
    KF_CHECK(context.check(api.cuFuncGetAttribute(&value, which, function.handle),
                           "kernel says no attribute", phase.entry));
    return value;
  };
  KF_TRY(const int64_t declared, attribute(number::staticSharedBytes));
  KF_TRY(const int64_t registers, attribute(number::registers));
  KF_TRY(const int64_t local, attribute(number::localBytes));
  const int64_t dynamic = std::max<int64_t>(0, phase.sharedBytes - declared);
  if (dynamic > 0)
    KF_CHECK(context.check(
        api.cuFuncSetAttribute(function.handle, number::maxDynamicSharedBytes, int(dynamic)),
        "shared memory is refused", phase.entry));
  function.dynamicSharedBytes = unsigned(dynamic);
  resources.registers = std::max(resources.registers, registers);
  resources.spillBytes = std::max(resources.spillBytes, local);
  resources.sharedBytes = std::max(resources.sharedBytes, declared + dynamic);
  return function;
}

Expected<Kernel> loadKernel(const std::shared_ptr<Context> &context, const Artifact &artifact) {
  const Context::Current current(*context);
  const Api &api = context->api();
  // Options are pointers of which some are numbers.
  std::array<char, 4096> log{}, remarks{};
  auto numberAsPointer = [](uintptr_t value) { return reinterpret_cast<void *>(value); };
  std::array<int, 6> options = {number::errorLog,          number::errorLogBytes,
                                number::infoLog,           number::infoLogBytes,
                                number::optimizationLevel, number::logVerbose};
  std::array<void *, 6> values = {log.data(),         numberAsPointer(log.size() - 1),
                                  remarks.data(),     numberAsPointer(remarks.size() - 1),
                                  numberAsPointer(4), numberAsPointer(1)};
  CUmodule module = nullptr;
  const CUresult result = api.cuModuleLoadDataEx(
      &module, artifact.code.c_str(), unsigned(options.size()), options.data(), values.data());
  if (Status status = context->check(result, "kernel cannot be compiled", artifact.kernel);
      !status) {
    Error error = std::move(status).error();
    if (log.front() != '\0')
      error.why = fmt::format("{}: {}", error.why, firstMessage(log.data()));
    return tl::unexpected(std::move(error));
  }
  Kernel kernel;
  kernel.module = std::make_unique<Module>(context, module);
  if (std::string why = slownessIn(remarks.data()); !why.empty())
    return failed("kernel is compiled to slow code", artifact.kernel, std::move(why),
                  "another schedule may not be");
  for (const Phase &phase : artifact.launching.phases) {
    KF_TRY(Function function, loadPhase(*context, *kernel.module, phase, kernel.resources));
    kernel.phases.push_back(function);
  }
  return kernel;
}

} // namespace

Module::~Module() {
  const Context::Current current(*context);
  context->api().cuModuleUnload(handle);
}

Status checkKernels(const Context &context, const Program &program) {
  for (const Artifact &artifact : program.artifacts) {
    if (artifact.library)
      return unusable(cannotRun, artifact.kernel,
                      fmt::format("it is a call of {}, which only the host's processor runs",
                                  artifact.variant));
    for (const Phase &phase : artifact.launching.phases)
      KF_CHECK(checkPhase(context, artifact, phase));
  }
  return {};
}

Expected<std::vector<std::vector<Kernel>>>
loadKernels(const std::shared_ptr<Context> &context,
            std::span<const std::shared_ptr<const Program>> programs) {
  KF_CHECK(context->alive());
  std::vector<std::vector<Kernel>> kernels;
  std::vector<std::pair<const Artifact *, Kernel *>> tasks;
  for (const auto &program : programs)
    kernels.emplace_back(program->artifacts.size());
  for (size_t p = 0; p < programs.size(); ++p)
    for (size_t a = 0; a < kernels[p].size(); ++a)
      tasks.emplace_back(&programs[p]->artifacts[a], &kernels[p][a]);
  std::vector<Status> statuses(tasks.size());
  std::atomic<size_t> next = 0;
  auto work = [&] {
    for (size_t i = next++; i < tasks.size(); i = next++) {
      Expected<Kernel> kernel = loadKernel(context, *tasks[i].first);
      if (kernel)
        *tasks[i].second = std::move(*kernel);
      else
        statuses[i] = tl::unexpected(std::move(kernel).error());
    }
  };
  {
    const size_t count =
        std::min<size_t>(tasks.size(), std::max(1U, std::thread::hardware_concurrency()));
    std::vector<std::jthread> threads;
    for (size_t i = 1; i < count; ++i)
      threads.emplace_back(work);
    work();
  }
  for (Status &status : statuses)
    KF_CHECK(std::move(status));
  return kernels;
}

} // namespace kernelforge::cuda
