#include "kernelforge/compiler/Targets.h"

#include "kernelforge/compiler/TargetFacts.h"

#include "kernelforge/backend/reference/ReferenceDevice.h"
#include "kernelforge/codegen/reference/Generator.h"
#ifdef KERNELFORGE_CPU
#include "kernelforge/backend/cpu/CpuDevice.h"
#include "kernelforge/codegen/cpu/Generator.h"
#endif
#ifdef KERNELFORGE_CUDA
#include "kernelforge/backend/cuda/CudaDevice.h"
#include "kernelforge/codegen/cuda/Generator.h"
#endif
#ifdef KERNELFORGE_WEBGPU
#include "kernelforge/backend/webgpu/WebGpuDevice.h"
#include "kernelforge/codegen/webgpu/Generator.h"
#endif
#include "kernelforge/support/Numbers.h"
#include "kernelforge/support/Suggest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <climits>
#include <cstdlib>

using namespace kernelforge;

namespace {

/// The word that a user gave for an option; empty: none.
[[maybe_unused]] std::string wordOf(const DeviceOptions &options, const char *name) {
  const auto found = options.words.find(name);
  return found == options.words.end() ? std::string() : found->second;
}

/// The number of a device; 0 where no word is given.
[[maybe_unused]] Expected<int> ordinalOf(const std::string &word) {
  if (word.empty())
    return 0;
  const auto number = parseInteger<int>(word, 0, INT_MAX);
  if (!number)
    return unusable("device is not usable", "--cuda-device " + word, number.error());
  return *number;
}

struct Kind {
  std::unique_ptr<CodeGenerator> generator;
  Expected<std::unique_ptr<Device>> (*createDevice)(const DeviceOptions &);
  /// Null where a library has one device, or numbers them.
  Expected<std::vector<std::string>> (*deviceNames)(const DeviceOptions &) = nullptr;
  /// Of how backend/<target> calls code and of how weights lie: raise it where programs in files
  /// become wrong by a change.
  int convention = 1;
};

const std::vector<Kind> &kinds() {
  static const std::vector<Kind> all = [] {
    std::vector<Kind> kinds;
#ifdef KERNELFORGE_CPU
    kinds.push_back({cpu::createGenerator(),
                     [](const DeviceOptions &options) {
                       return createCpuDevice({options.threads, options.poison});
                     },
                     /*deviceNames=*/nullptr, /*convention=*/2});
#endif
    kinds.push_back({reference::createGenerator(),
                     [](const DeviceOptions &) -> Expected<std::unique_ptr<Device>> {
                       return createReferenceDevice();
                     }});
#ifdef KERNELFORGE_CUDA
    kinds.push_back({cuda::createGenerator(),
                     [](const DeviceOptions &options) -> Expected<std::unique_ptr<Device>> {
                       CudaOptions words = {.libraryPath = wordOf(options, "cuda-library")};
                       KF_TRY(words.ordinal, ordinalOf(wordOf(options, "cuda-device")));
                       return createCudaDevice(words);
                     }});
#endif
#ifdef KERNELFORGE_WEBGPU
    kinds.push_back({webgpu::createGenerator(),
                     [](const DeviceOptions &options) {
                       return createWebGpuDevice(
                           {wordOf(options, "webgpu-library"), wordOf(options, "webgpu-adapter")});
                     },
                     [](const DeviceOptions &options) {
                       return webGpuAdapterNames({wordOf(options, "webgpu-library")});
                     }});
#endif
    return kinds;
  }();
  return all;
}

/// Kinds that a build can have.
constexpr std::string_view knownKinds[] = {"cpu", "reference", "cuda", "webgpu"};

Expected<const Kind *> findKind(std::string_view name) {
  for (const Kind &kind : kinds())
    if (kind.generator->kind() == name)
      return &kind;
  const std::string here = fmt::format("{}", fmt::join(targetKinds(), " or "));
  if (std::ranges::find(knownKinds, name) != std::end(knownKinds))
    return missing("target is not available", fmt::format("--target {}", name),
                   "this build has no code generator for it", "use --target " + here);
  return unusable("unknown target", fmt::format("--target {}", name),
                  "this build makes code for " + here, namesHint(name, targetKinds()));
}

} // namespace

void kernelforge::prepareEnvironment() {
#ifdef KERNELFORGE_WEBGPU
  // Mesa's layer that orders adapters asks a desktop which one it uses, and complains on standard
  // error where there is none. Adapters are chosen by name here.
  ::setenv("NODEVICE_SELECT", "1", /*overwrite=*/0);
#endif
}

std::vector<TargetOption> kernelforge::targetOptions() {
  std::vector<TargetOption> options;
#ifdef KERNELFORGE_CUDA
  options.push_back({"cuda-library", "for --target cuda: path of NVIDIA's driver (default: the "
                                     "libcuda.so.1 that the system finds)"});
  options.push_back({"cuda-device", "for --target cuda: number of the GPU (default: 0)"});
#endif
#ifdef KERNELFORGE_WEBGPU
  options.push_back({"webgpu-library", "for --target webgpu: path of a library that implements "
                                       "webgpu.h (default: wgpu-native, as it was set up)"});
  options.push_back({"webgpu-adapter", "for --target webgpu: a part of the adapter's name"});
#endif
  return options;
}

std::vector<std::string> kernelforge::deviceNames(std::string_view kind,
                                                  const std::map<std::string, std::string> &words) {
  const auto found = findKind(kind);
  if (!found || !(*found)->deviceNames)
    return {};
  return (*found)->deviceNames({.words = words}).value_or(std::vector<std::string>());
}

std::vector<std::string> kernelforge::deviceLibraries() {
  std::vector<std::string> files;
#ifdef KERNELFORGE_WEBGPU
  if (auto file = webGpuLibraryFile())
    files.push_back(*file);
#endif
  return files;
}

std::vector<std::string> kernelforge::targetKinds() {
  std::vector<std::string> names;
  for (const Kind &kind : kinds())
    names.emplace_back(kind.generator->kind());
  return names;
}

std::vector<std::string> kernelforge::knownTargetKinds() {
  std::vector<std::string> names = targetKinds();
  for (std::string_view name : knownKinds)
    if (std::ranges::find(names, name) == names.end())
      names.emplace_back(name);
  return names;
}

Expected<int> kernelforge::conventionOf(std::string_view kind) {
  KF_TRY(const Kind *found, findKind(kind));
  return found->convention;
}

Expected<const CodeGenerator *> kernelforge::findGenerator(std::string_view kind) {
  KF_TRY(const Kind *found, findKind(kind));
  return found->generator.get();
}

const CodeGenerator &kernelforge::generatorOf(const Target &target) {
  return **findGenerator(target.kind);
}

Expected<std::unique_ptr<Device>> kernelforge::createDevice(std::string_view kind,
                                                            const DeviceOptions &options) {
  KF_TRY(const Kind *found, findKind(kind));
  return found->createDevice(options);
}

Expected<Target> kernelforge::parseTarget(std::string_view kind, std::string_view chip,
                                          std::string_view features, const DeviceOptions &options) {
  KF_TRY(const CodeGenerator *generator, findGenerator(kind));
  if (!chip.empty() && chip != "native")
    if (Expected<Target> target = generator->parse(chip, features, nullptr);
        target || target.error().kind != ErrorKind::Missing)
      return target;
  KF_TRY(auto device, createDevice(kind, options));
  KF_TRY(Target target, generator->parse(chip, features, &device->info()));
  target.device = device->info().identity();
  return target;
}

Target kernelforge::referenceTarget() {
  Target target;
  target.kind = "reference";
  return target;
}

Expected<Target> kernelforge::targetHere(Target target, const DeviceOptions &options) {
  KF_TRY(auto device, createDevice(target.kind, options));
  KF_CHECK(generatorOf(target).checkRunnable(target, device->info()));
  target.device = device->info().identity();
  return target;
}
