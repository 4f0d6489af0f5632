#include "ModuleBench.h"

#include "Compiled.h"
#include "Turns.h"

#include "kernelforge/compiler/Targets.h"
#include "kernelforge/problem/ModuleText.h"
#include "kernelforge/support/Json.h"
#include "kernelforge/support/MappedFile.h"
#include "kernelforge/support/OutputFile.h"

#include <algorithm>
#include <cmath>
#include <iostream>

#include <fmt/format.h>

using namespace kernelforge;
using namespace kernelforge::bench;

namespace {

constexpr double sampleSeconds = 3e-3;

Expected<std::vector<int64_t>> sizesOf(const Program &program,
                                       const std::map<std::string, int64_t> &given) {
  std::vector<int64_t> sizes;
  for (const ProgramSize &size : program.sizes) {
    const auto found = given.find(size.name);
    if (found == given.end() && size.min != size.max)
      return unusable("size is not known", size.name, "nobody gives it a value",
                      fmt::format("give --size {}=N", size.name));
    sizes.push_back(found == given.end() ? size.min : found->second);
  }
  return sizes;
}

/// One set of buffers: the arguments' bytes from their files, results as NaN.
Status addSet(const Gpu &gpu, const Program &program, std::span<const int64_t> sizes,
              const std::vector<std::string> &arguments, ProgramBuffers &buffers) {
  for (const std::string &bytes : arguments) {
    KF_TRY(buffers.arguments.emplace_back(),
           gpu.upload(std::as_bytes(std::span(bytes.data(), bytes.size()))));
  }
  for (int result : program.results) {
    const auto bytes = checkedExtent(program.buffers[size_t(result)].bytes, sizes).value_or(0);
    KF_TRY(buffers.results.emplace_back(), gpu.allocatePoisoned(int64_t(bytes)));
  }
  return {};
}

class Served {
public:
  Served(const Gpu &gpu, Turns turns) : gpu(gpu), turns(std::move(turns)) {}

  Status prepare(const ModuleOptions &options);
  Status answer();

private:
  Expected<double> secondsOfRun();
  Expected<std::unique_ptr<Side>> sideOf(int sets, int runs);

  const Gpu &gpu;
  Turns turns;
  Program once;
  std::vector<int64_t> sizes;
  std::vector<std::string> arguments;
  ProgramBuffers buffers; ///< of all sets
  std::unique_ptr<Side> side;
  int sets = 1, runs = 1;
};

Expected<std::unique_ptr<Side>> Served::sideOf(int sets, int runs) {
  ProgramBuffers some = buffers;
  some.arguments.resize(size_t(sets) * once.arguments.size());
  some.results.resize(size_t(sets) * once.results.size());
  return makeOurSide(gpu, once.function, repeated(once, sets, runs), sizes, std::move(some));
}

Status Served::prepare(const ModuleOptions &options) {
  DeviceOptions device;
  if (!options.cudaLibrary.empty())
    device.words["cuda-library"] = options.cudaLibrary;
  KF_TRY(const Target target, parseTarget("cuda", "native", "", device));
  KF_TRY(const std::string text, readText(options.file, "module is not usable", maxModuleBytes));
  KF_TRY(once, compileText(text, options.file, target, options.records));
  KF_TRY(sizes, sizesOf(once, options.sizes));
  double bytes = 1;
  for (size_t i = 0; i < once.arguments.size(); ++i) {
    KF_TRY(arguments.emplace_back(),
           readFile(fmt::format("{}/argument{}.bin", options.data, i),
                    "argument of the function is not usable", UINT64_C(8) << 30));
    bytes += double(arguments.back().size());
  }
  KF_CHECK(addSet(gpu, once, sizes, arguments, buffers));
  for (size_t i = 0; i < once.results.size(); ++i)
    bytes += double(buffers.results[i].bytes);

  // Once, for the result and to know how long it takes.
  KF_TRY(std::unique_ptr<Side> first, sideOf(1, 1));
  KF_TRY(const Ticket ticket, first->submit(nullptr, nullptr));
  KF_CHECK(gpu.queue()->wait(ticket));
  for (size_t i = 0; i < once.results.size(); ++i) {
    std::string result(size_t(buffers.results[i].bytes), '\0');
    KF_CHECK(gpu.download(buffers.results[i],
                          std::as_writable_bytes(std::span(result.data(), result.size()))));
    KF_CHECK(writeOutput(fmt::format("{}/result{}.bin", options.data, i), result));
  }
  KF_TRY(const double about, turns.sample(*first, Pace::IdleGaps));
  sets = std::clamp(int(std::ceil(beyondCache / bytes)), 2, mostSets);
  runs = std::clamp(int(sampleSeconds / about), 1, mostRuns);
  if (runs > 1)
    runs = (runs + sets - 1) / sets * sets;
  sets = std::min(sets, runs);
  for (int set = 1; set < sets; ++set)
    KF_CHECK(addSet(gpu, once, sizes, arguments, buffers));
  KF_TRY(side, sideOf(sets, runs));
  Json kernels = Json::array();
  for (const Artifact &artifact : once.artifacts)
    kernels.push_back({{"kernel", artifact.kernel},
                       {"schedule", artifact.schedule},
                       {"source", artifact.scheduleSource}});
  fmt::print("{}\n", Json{{"device", gpu.context().info().name},
                          {"kernels", kernels},
                          {"sets", sets},
                          {"runs", runs}}
                         .dump());
  std::fflush(stdout);
  return {};
}

Status Served::answer() {
  for (std::string line; std::getline(std::cin, line);) {
    Pace pace = Pace::BackToBack;
    if (line == nameOf(Pace::IdleGaps))
      pace = Pace::IdleGaps;
    else if (line != nameOf(pace))
      return unusable("request is not usable", line, "there is no such pace",
                      "write back-to-back or idle-gaps");
    KF_TRY(const double seconds, turns.sample(*side, pace));
    fmt::print("{:.6e}\n", seconds / runs);
    std::fflush(stdout);
  }
  return {};
}

} // namespace

Status bench::serveModule(const ModuleOptions &options) {
  KF_TRY(const Gpu gpu, Gpu::open(options.cudaLibrary));
  KF_TRY(Turns turns, Turns::make(gpu));
  Served served(gpu, std::move(turns));
  KF_CHECK(served.prepare(options));
  return served.answer();
}
