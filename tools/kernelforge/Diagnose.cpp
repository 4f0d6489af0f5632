// diagnose: what this machine has and can do, and whether each device works.
#include "Commands.h"
#include "MatmulRun.h"

#include "kernelforge/compiler/TargetFacts.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/measure/Ceilings.h"
#include "kernelforge/problem/DeviceCeilings.h"
#include "kernelforge/problem/GeneratedMatmul.h"
#include "kernelforge/support/Amx.h"
#include "kernelforge/support/Host.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

/// What a device does at most.
struct MeasuredCeilings {
  double copy = 0;                          ///< bytes per second
  double launch = 0;                        ///< seconds
  std::map<std::string, double> arithmetic; ///< operations per second, by kind
};

/// One kind of device: what it says of itself, and what became of its smoke test.
struct DeviceState {
  std::string kind;
  std::optional<DeviceInfo> info = {};  ///< where there is one
  std::vector<std::string> others = {}; ///< devices that could be chosen instead
  std::string status = "ok";            ///< ok, wrong_result, failed or unavailable
  std::string detail = {};
  std::optional<Error> error = {};               ///< why the status is failed or unavailable
  std::optional<MeasuredCeilings> ceilings = {}; ///< where they could be measured
  std::string whyNoCeilings = {};                ///< otherwise
};

/// Everything that is printed.
struct Diagnosis {
  std::string cpuModel; ///< as LLVM calls it
  std::vector<std::string> isa;
  AmxState amx;
  int cores = 1;
  std::vector<ArithmeticPeak> peaks;
  std::vector<ReadBandwidth> bandwidths;
  TeamOverhead team;
  std::vector<DeviceState> devices;
};

} // namespace

/// The command's context, as if that kind of target had been asked for.
static Context contextFor(const std::string &kind, const Context &context) {
  Context own = context;
  if (kind != context.target) {
    own.target = kind;
    own.targetCpu = own.targetFeatures = "";
  }
  return own;
}

/// Compiles one matmul for the target, runs it and compares it with the reference.
static Expected<Accuracy> runGenerated(const MatmulProblem &problem, const Context &context) {
  KF_TRY(SessionOptions options, requestedSession(context));
  KF_TRY(options.target, targetHere(std::move(options.target), context.device));
  const GeneratedMatmul generated(std::move(options));
  KF_TRY(auto run, MatmulRun::create(problem, context.seed, requestedThreads(context)));
  KF_TRY(auto matmul, run->prepare(generated, ""));
  return run->verify(*matmul);
}

/// Arithmetic of this machine's cores is `peaks`.
static Expected<MeasuredCeilings> measureDevice(const Context &context,
                                                const std::vector<ArithmeticPeak> &peaks) {
  constexpr double seconds = 0.05;
  KF_TRY(SessionOptions options, requestedSession(context));
  options.threads = requestedThreads(context);
  KF_TRY(auto device, DeviceCeilings::create(std::move(options)));
  MeasuredCeilings ceilings;
  KF_TRY(int64_t bytes, device->uncached());
  KF_TRY(ceilings.copy, device->copy(bytes, seconds));
  KF_TRY(ceilings.launch, device->launch(seconds));
  if (device->device().callsLibraries) {
    for (const ArithmeticPeak &peak : peaks)
      ceilings.arithmetic[peak.name] = peak.allCores;
  } else if (Expected<double> arithmetic = device->multiplyAdds(seconds)) {
    ceilings.arithmetic["fma_f32"] = *arithmetic;
  } else if (arithmetic.error().kind != ErrorKind::Unusable) {
    return tl::unexpected(arithmetic.error());
  }
  return ceilings;
}

static DeviceState tryDevice(const std::string &kind, const Context &context,
                             const std::vector<ArithmeticPeak> &peaks) {
  DeviceState state{kind};
  auto fail = [&](const Error &error) {
    state.status = error.kind == ErrorKind::Missing ? "unavailable" : "failed";
    state.detail = error.line();
    state.error = error;
    return state;
  };
  if (auto built = findGenerator(kind); !built) {
    fail(built.error());
    state.detail = "not part of this build";
    return state;
  }
  DeviceOptions options = context.device;
  options.threads = requestedThreads(context);
  auto device = createDevice(kind, options);
  if (!device)
    return fail(device.error());
  state.info = (*device)->info();
  state.others = deviceNames(kind, options.words);
  std::erase(state.others, state.info->name);
  const MatmulProblem problem{7, 96, 64, ElementType::Q4_1, false};
  const Expected<Accuracy> accuracy = runGenerated(problem, contextFor(kind, context));
  if (!accuracy)
    return fail(accuracy.error());
  state.status = accuracy->pass ? "ok" : "wrong_result";
  state.detail = fmt::format("{}: max error {:.3g} of {:.3g}", problem.name(), accuracy->maxAbs,
                             accuracy->maxReference);
  if (Expected<MeasuredCeilings> measured = measureDevice(contextFor(kind, context), peaks))
    state.ceilings = *measured;
  else
    state.whyNoCeilings = measured.error().line();
  return state;
}

/// The limits that a device states, by name.
static std::vector<std::pair<const char *, int64_t>> limitsOf(const DeviceInfo &info) {
  const Limits &l = info.limits;
  std::vector<std::pair<const char *, int64_t>> all = {
      {"workers", l.workers},
      {"vector_bits", l.vectorBits},
      {"shared_bytes", l.sharedBytes},
      {"registers", l.registers},
      {"threads_per_block", l.threadsPerBlock},
      {"subgroup_min", l.subgroupMin},
      {"subgroup_max", l.subgroupMax},
      {"blocks_per_dimension", l.blocksPerDimension},
      {"buffer_alignment", l.bufferAlignment},
      {"bindings", l.bindings},
      {"binding_bytes", l.bindingBytes},
      {"memory_bytes", l.memoryBytes},
      {"index_bits", l.indexBits}};
  std::erase_if(all, [](const auto &limit) { return limit.second == 0; });
  return all;
}

/// Null is what was not measured.
static Json ceilingsJson(const DeviceState &state) {
  Json json = {{"copy_gb_per_s", nullptr},
               {"launch_ns", nullptr},
               {"arithmetic_gops", {{"fma_f32", nullptr}}}};
  if (state.ceilings) {
    json.update({{"copy_gb_per_s", state.ceilings->copy / 1e9},
                 {"launch_ns", state.ceilings->launch * 1e9}});
    for (const auto &[name, rate] : state.ceilings->arithmetic)
      json["arithmetic_gops"][name] = rate / 1e9;
  }
  if (!state.whyNoCeilings.empty())
    json["why"] = state.whyNoCeilings;
  return json;
}

static Json toJson(const DeviceState &state) {
  Json json = {{"kind", state.kind}, {"status", state.status}, {"detail", state.detail}};
  if (!state.info)
    return json;
  const DeviceInfo &info = *state.info;
  json.update({{"name", info.name},
               {"chip", info.chip},
               {"driver", info.driver},
               {"features", info.features},
               {"others", state.others},
               {"software", info.software},
               {"shares_host_memory", info.sharesHostMemory},
               {"ceilings", ceilingsJson(state)},
               {"limits", Json::object()}});
  for (const auto &[name, value] : limitsOf(info))
    json["limits"][name] = value;
  return json;
}

static std::string toText(const DeviceState &state) {
  std::string text =
      fmt::format("{:<10} {:<12} {}\n", state.kind, state.status, escapeControls(state.detail));
  if (!state.info)
    return text;
  const DeviceInfo &info = *state.info;
  auto line = [&](const std::string &what) {
    text += fmt::format("{:<23} {}\n", "", escapeControls(what));
  };
  line(info.name + (info.driver.empty() ? "" : ", " + info.driver) +
       (info.software ? ", software: not for timing" : ""));
  std::string limits;
  for (const auto &[name, value] : limitsOf(info))
    limits += fmt::format("{}{} {}", limits.empty() ? "" : ", ", name, value);
  line(limits);
  if (!info.features.empty())
    line(fmt::format("features {}", fmt::join(info.features, ", ")));
  if (!state.others.empty())
    line(fmt::format("there is also {}", fmt::join(state.others, ", ")));
  if (state.ceilings) {
    const auto fma = state.ceilings->arithmetic.find("fma_f32");
    line(fmt::format("copies {:.1f} GB/s, multiplies and adds f32 {}, a launch takes {:.2f} us",
                     state.ceilings->copy / 1e9,
                     fma == state.ceilings->arithmetic.end()
                         ? "(not measured)"
                         : fmt::format("{:.1f} Gop/s", fma->second / 1e9),
                     state.ceilings->launch * 1e6));
  } else if (!state.whyNoCeilings.empty())
    line("ceilings not measured: " + state.whyNoCeilings);
  return text;
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
               {"team", {{"run_ns", d.team.run * 1e9}, {"step_ns", d.team.step * 1e9}}},
               {"devices", Json::array()}};
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
  for (const DeviceState &state : d.devices)
    json["devices"].push_back(toJson(state));
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
  text += fmt::format("\nteam       a task for each of {} threads: {:.2f} us to begin and to join, "
                      "{:.2f} us within a kernel\n\n",
                      d.cores, d.team.run * 1e6, d.team.step * 1e6);
  for (const DeviceState &state : d.devices)
    text += toText(state);
  return text;
}

static Expected<int> diagnose(const Context &context) {
  Diagnosis d;
  // That a device is not here is what this command is to find out.
  if (Expected<Target> asked = requestedTarget(context);
      !asked && asked.error().kind != ErrorKind::Missing)
    return tl::unexpected(asked.error());
  if (Expected<Target> processor = requestedTarget(contextFor(targetKinds().front(), context))) {
    d.cpuModel = processor->chip;
    d.isa = processor->enabled;
  }
  d.amx = amxState();
  d.cores = requestedThreads(context);
  CeilingOptions options;
  options.threads = d.cores;
  options.cancel = interruptFlag();
  KF_TRY(d.peaks, measurePeaks(options));
  KF_TRY(d.bandwidths, measureReadBandwidth(options));
  KF_TRY(d.team, measureTeamOverhead(options));
  for (const std::string &kind : knownTargetKinds())
    d.devices.push_back(tryDevice(kind, context, d.peaks));
  if (context.json)
    printJson(toJson(d));
  else
    print(toText(d));
  for (const DeviceState &state : d.devices) {
    if (state.status == "wrong_result" || state.status == "failed")
      return report(Error{ErrorKind::No, "smoke test failed", state.kind, state.detail, ""}, false);
    if (state.kind == context.target && state.error)
      return report(*state.error, false);
  }
  return 0;
}

void cli::addDiagnose(CLI::App &app, Context &context) {
  CLI::App &command = addCommand(
      app, context, {"diagnose", "what this machine has and can do, measured", "diagnose --json"},
      [&context] { return diagnose(context); });
  addTargetOptions(command, context);
  addSeedOption(command, context);
}
