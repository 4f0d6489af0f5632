// diagnose: what this machine has and can do, and whether each backend works on it.
#include "Commands.h"
#include "MatmulRun.h"

#include "kernelforge/measure/Ceilings.h"
#include "kernelforge/support/Host.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

/// What became of a backend's smoke test.
struct BackendState {
  std::string name, status, detail; ///< status: ok, wrong_result, failed or unavailable
};

/// Everything that is printed.
struct Diagnosis {
  std::string cpuModel; ///< as LLVM calls it
  std::vector<std::string> isa;
  AmxState amx;
  int cores = 1;
  std::vector<ArithmeticPeak> peaks;
  std::vector<ReadBandwidth> bandwidths;
  std::vector<BackendState> backends;
};

} // namespace

/// Compiles one matmul, runs it and compares it with the reference.
static Expected<Accuracy> runGenerated(const MatmulProblem &problem, const Context &context) {
  KF_TRY(const MatmulRegistry *variants, matmulVariants(context));
  KF_TRY(const MatmulKernel *kernel, variants->find("generated"));
  KF_TRY(auto run, MatmulRun::create(problem, context.seed, requestedThreads(context)));
  KF_TRY(auto matmul, run->prepare(*kernel, ""));
  return run->verify(*matmul);
}

static BackendState tryCpu(const Context &context) {
  const MatmulProblem problem{7, 96, 64, ElementType::Q4_1, false};
  Expected<Accuracy> accuracy = runGenerated(problem, context);
  if (!accuracy)
    return {"cpu", "failed", accuracy.error().line()};
  return {"cpu", accuracy->pass ? "ok" : "wrong_result",
          fmt::format("{}: max error {:.3g} of {:.3g}", problem.name(), accuracy->maxAbs,
                      accuracy->maxReference)};
}

static Json toJson(const Diagnosis &d) {
  const Host &machine = host();
  Json json = {{"host",
                {{"cpu", machine.cpu},
                 {"vendor", machine.vendor},
                 {"llvm_cpu", d.cpuModel},
                 {"isa", d.isa},
                 {"logical_cpus", machine.logicalCpus},
                 {"physical_cores", machine.physicalCores},
                 {"caches",
                  {{"l1d_bytes", machine.l1dBytes},
                   {"l2_bytes", machine.l2Bytes},
                   {"l3_bytes", machine.l3Bytes}}},
                 {"memory_bytes", machine.memoryBytes},
                 {"os", machine.os}}},
               {"amx", {{"present", d.amx.present}, {"permitted", d.amx.permitted}}},
               {"cores_used", d.cores},
               {"peaks", Json::array()},
               {"read_bandwidth", Json::array()},
               {"backends", Json::array()}};
  for (const ArithmeticPeak &peak : d.peaks)
    json["peaks"].push_back({{"name", peak.name},
                             {"instruction", peak.instruction},
                             {"one_core_gops", peak.oneCore / 1e9},
                             {"all_cores_gops", peak.allCores / 1e9}});
  for (const ReadBandwidth &rate : d.bandwidths)
    json["read_bandwidth"].push_back({{"level", rate.level},
                                      {"bytes", rate.bytes},
                                      {"one_core_gb_per_s", rate.oneCore / 1e9},
                                      {"all_cores_gb_per_s", rate.allCores / 1e9}});
  for (const BackendState &backend : d.backends)
    json["backends"].push_back(
        {{"name", backend.name}, {"status", backend.status}, {"detail", backend.detail}});
  return json;
}

static std::string toText(const Diagnosis &d) {
  const Host &machine = host();
  std::string text = fmt::format(
      "cpu       {} ({})\ncores     {} physical, {} logical\ncaches    L1d {} KiB, L2 {} KiB, L3 "
      "{} KiB\nmemory    {} MiB\nsystem    {}\n",
      machine.cpu, d.cpuModel, machine.physicalCores, machine.logicalCpus, machine.l1dBytes >> 10,
      machine.l2Bytes >> 10, machine.l3Bytes >> 10, machine.memoryBytes >> 20, machine.os);
  std::vector<std::string> vectors;
  for (const std::string &feature : d.isa)
    if (feature.starts_with("avx") || feature.starts_with("amx") || feature == "fma" ||
        feature == "f16c")
      vectors.push_back(feature);
  text += fmt::format("isa       {}\namx       {}\n", fmt::join(vectors, " "),
                      !d.amx.present    ? "not present"
                      : d.amx.permitted ? "present, permitted"
                                        : "present, the system does not permit it");
  text += fmt::format("\n{:<10} {:<18} {:>12} {:>12}\n", "peak", "instruction", "1 core",
                      fmt::format("{} cores", d.cores));
  for (const ArithmeticPeak &peak : d.peaks)
    text += fmt::format("{:<10} {:<18} {:>7.1f} Gop/s {:>7.1f} Gop/s\n", peak.name,
                        peak.instruction, peak.oneCore / 1e9, peak.allCores / 1e9);
  text += fmt::format("\n{:<10} {:>18} {:>12} {:>12}\n", "read", "working set", "1 core",
                      fmt::format("{} cores", d.cores));
  for (const ReadBandwidth &rate : d.bandwidths)
    text += fmt::format("{:<10} {:>14} KiB {:>7.1f} GB/s {:>7.1f} GB/s\n", rate.level,
                        rate.bytes >> 10, rate.oneCore / 1e9, rate.allCores / 1e9);
  text += "\n";
  for (const BackendState &backend : d.backends)
    text += fmt::format("{:<10} {:<12} {}\n", backend.name, backend.status,
                        escapeControls(backend.detail));
  return text;
}

static Expected<int> diagnose(const Context &context) {
  Diagnosis d;
  KF_TRY(Target target, requestedTarget(context));
  d.cpuModel = target.chip;
  d.isa = target.enabled;
  d.amx = amxState();
  d.cores = requestedThreads(context);
  CeilingOptions options;
  options.threads = d.cores;
  options.cancel = interruptFlag();
  KF_TRY(d.peaks, measurePeaks(options));
  KF_TRY(d.bandwidths, measureReadBandwidth(options));
  d.backends.push_back(tryCpu(context));
  for (const char *name : {"cuda", "webgpu"})
    d.backends.push_back({name, "unavailable", "not part of this build"});
  if (context.json)
    printJson(toJson(d));
  else
    print(toText(d));
  const BackendState &cpu = d.backends.front();
  return cpu.status == "ok"
             ? 0
             : report(Error{ErrorKind::No, "smoke test failed", cpu.name, cpu.detail, ""}, false);
}

void cli::addDiagnose(CLI::App &app, Context &context) {
  CLI::App &command = addCommand(
      app, context, {"diagnose", "what this machine has and can do, measured", "diagnose --json"},
      [&context] { return diagnose(context); });
  addTargetOptions(command, context);
  addSeedOption(command, context);
}
