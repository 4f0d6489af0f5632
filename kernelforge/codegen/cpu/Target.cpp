#include "kernelforge/codegen/cpu/Target.h"

#include "kernelforge/support/Amx.h"
#include "kernelforge/support/Suggest.h"

#include <algorithm>
#include <array>
#include <mutex>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "llvm/ADT/StringExtras.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Target/TargetOptions.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

namespace kernelforge {

namespace {

/// The same on every x86-64 Linux, so that objects and their keys do not depend on the builder's.
constexpr const char *targetTriple = "x86_64-pc-linux-gnu";

struct Level {
  std::string_view name;
  const char *cpu;
};
/// The psABI's levels and not haswell and skylake-avx512: those imply instructions of the system
/// (invpcid, rtm, pku) that our code never uses and virtual machines and other vendors lack.
constexpr std::array<Level, 2> levels{{{"avx2", "x86-64-v3"}, {"avx512", "x86-64-v4"}}};

/// Features of the system and of single scalar instructions that no kernel's code uses: a machine
/// without them runs the code all the same.
constexpr std::string_view unusedByKernels[] = {
    "adx",       "cldemote", "clflushopt", "clwb",    "clzero",    "cmpccxadd", "enqcmd",
    "fsgsbase",  "fxsr",     "hreset",     "invpcid", "kl",        "lwp",       "movdir64b",
    "movdiri",   "mwaitx",   "pconfig",    "pku",     "prefetchi", "prfchw",    "ptwrite",
    "raoint",    "rdpid",    "rdpru",      "rdrnd",   "rdseed",    "rtm",       "sahf",
    "serialize", "sgx",      "sha",        "sha512",  "shstk",     "sm3",       "sm4",
    "tsxldtrk",  "uintr",    "usermsr",    "waitpkg", "wbnoinvd",  "widekl",    "xsave",
    "xsavec",    "xsaveopt", "xsaves",     "invlpgb", "aes",       "pclmul",    "vaes",
    "vpclmulqdq"};

constexpr std::string_view requiredFeatures[] = {"avx2", "fma", "f16c"};

const llvm::Target *x86Target() {
  initializeX86();
  std::string error;
  return llvm::TargetRegistry::lookupTarget(targetTriple, error);
}

using SubtargetInfo = std::unique_ptr<llvm::MCSubtargetInfo>;

SubtargetInfo createSubtarget(llvm::StringRef cpu, llvm::StringRef features) {
  const llvm::Target *target = x86Target();
  if (!target)
    return nullptr;
  return SubtargetInfo(target->createMCSubtargetInfo(targetTriple, cpu, features));
}

std::vector<std::string> enabledFeatures(const llvm::MCSubtargetInfo &subtarget) {
  std::vector<std::string> names;
  for (const llvm::SubtargetFeatureKV &feature : subtarget.getAllProcessorFeatures())
    if (subtarget.getFeatureBits().test(feature.Value))
      names.push_back(feature.Key);
  std::sort(names.begin(), names.end());
  return names;
}

/// "a, b or c": the names of a table nearest to `name`.
template <typename Table> std::string nearestNames(llvm::StringRef name, const Table &table) {
  std::vector<std::pair<unsigned, std::string>> ranked;
  for (const auto &entry : table)
    ranked.emplace_back(name.edit_distance_insensitive(entry.Key), entry.Key);
  std::sort(ranked.begin(), ranked.end());
  ranked.erase(std::unique(ranked.begin(), ranked.end()), ranked.end());
  std::vector<std::string> names;
  for (size_t i = 0; i < ranked.size() && i < 3; ++i)
    names.push_back(ranked[i].second);
  return fmt::format("near: {}", fmt::join(names, ", "));
}

bool contains(const std::vector<std::string> &sorted, std::string_view name) {
  return std::binary_search(sorted.begin(), sorted.end(), name);
}

/// LLVM names the host by its model number, and where that is hidden or unknown by a rough guess
/// from its features, which misses processors with AMX.
std::string hostCpuName(const llvm::StringMap<bool> &hostFeatures) {
  std::string name = llvm::sys::getHostCPUName().str();
  SubtargetInfo subtarget = createSubtarget(name, "");
  if (!subtarget || !subtarget->isCPUStringValid(name))
    name = "x86-64-v3";
  auto on = [&](llvm::StringRef feature) { return hostFeatures.lookup(feature); };
  auto known = enabledFeatures(*createSubtarget(name, ""));
  if (on("amx-tile") && on("avx512fp16") && !contains(known, "amx-tile"))
    return on("amx-fp16") ? "graniterapids" : "sapphirerapids";
  return name;
}

/// The least list of +x and -x that turns the CPU's own features into the host's.
std::vector<std::string> hostDifference(const std::string &cpu,
                                        const llvm::StringMap<bool> &hostFeatures) {
  SubtargetInfo subtarget = createSubtarget(cpu, "");
  std::vector<std::string> known;
  for (const llvm::SubtargetFeatureKV &feature : subtarget->getAllProcessorFeatures())
    known.push_back(feature.Key);
  std::vector<std::string> enabled = enabledFeatures(*subtarget), added, removed;
  for (const auto &feature : hostFeatures) {
    std::string name = feature.getKey().str();
    if (!contains(known, name) || feature.getValue() == contains(enabled, name))
      continue;
    (feature.getValue() ? added : removed).push_back((feature.getValue() ? "+" : "-") + name);
  }
  std::sort(added.begin(), added.end());
  std::sort(removed.begin(), removed.end());
  // Removing a feature removes what implies it; what the host has comes back with the additions.
  removed.insert(removed.end(), added.begin(), added.end());
  return removed;
}

/// The level that `item` is or is nearest to, with or without a sign; empty where a name of the
/// table is nearer, or nothing is near.
template <typename Table> std::string levelNear(llvm::StringRef item, const Table &table) {
  std::vector<std::string> names;
  for (const Level &level : levels)
    names.emplace_back(level.name);
  for (const auto &entry : table)
    names.emplace_back(entry.Key);
  const std::string name = nearestName(item.ltrim("+-").str(), names);
  const bool isLevel = llvm::any_of(levels, [&](const Level &level) { return level.name == name; });
  return isLevel ? name : "";
}

/// Features in `list`; `mayLead` where a level could begin it, because no CPU is named.
Expected<std::vector<std::string>> parseFeatures(std::string_view list, const std::string &cpu,
                                                 bool mayLead) {
  SubtargetInfo subtarget = createSubtarget(cpu, "");
  auto table = subtarget->getAllProcessorFeatures();
  std::vector<std::string> features;
  llvm::SmallVector<llvm::StringRef> items;
  llvm::StringRef(list.data(), list.size()).split(items, ',', -1, /*KeepEmpty=*/false);
  for (llvm::StringRef item : items) {
    item = item.trim();
    const bool isSigned = item.starts_with("+") || item.starts_with("-");
    llvm::StringRef name = isSigned ? item.drop_front() : item;
    const bool isKnown = llvm::any_of(table, [&](const auto &e) { return name == e.Key; });
    if (const std::string level = levelNear(item, table); !isKnown && !level.empty())
      return unusable(
          "target feature is not usable", item.str(),
          fmt::format("there is a level {}, which takes a CPU's place and is no feature", level),
          mayLead ? fmt::format("begin the list with it, without a sign: {}", level)
                  : fmt::format("name {} in place of the CPU", level));
    if (isKnown && !isSigned)
      return unusable("target feature is not usable", item.str(),
                      "a feature begins with + (use it) or - (do without it)",
                      fmt::format("write +{}", item.str()));
    if (!isKnown)
      return unusable("target feature is not known", name.str(),
                      "no x86-64 processor of this LLVM has it", nearestNames(name, table));
    features.push_back(item.str());
  }
  // An AVX-512 feature alone gives no 512-bit registers: that is a feature of its own.
  bool wide = llvm::any_of(features, [](const std::string &f) { return f.starts_with("+avx512"); });
  if (wide && !llvm::is_contained(features, "-evex512") &&
      !contains(enabledFeatures(*subtarget), "evex512") &&
      !llvm::is_contained(features, "+evex512"))
    features.push_back("+evex512");
  return features;
}

} // namespace

void initializeX86() {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeX86AsmParser();
  });
}

Expected<Target> parseTarget(std::string_view cpuName, std::string_view featureList) {
  if (!x86Target())
    return missing("code generator is not here", targetTriple, "this LLVM has no x86 target");
  std::string name(cpuName.empty() ? "native" : cpuName);
  bool mayLead = name == "native";
  if (mayLead) {
    // The list may name a level in the CPU's place: "avx2", "avx512,+avx512vnni", "native".
    std::string_view first = featureList.substr(0, featureList.find(','));
    bool isLevel = first == "native" ||
                   llvm::any_of(levels, [&](const Level &level) { return level.name == first; });
    if (isLevel) {
      mayLead = false;
      name = first;
      featureList.remove_prefix(std::min(first.size() + 1, featureList.size()));
    }
  }

  Target target;
  target.kind = "cpu";
  target.triple = targetTriple;
  if (name == "native") {
    if (!llvm::Triple(llvm::sys::getProcessTriple()).isX86())
      return missing("native target is not here", llvm::sys::getProcessTriple(),
                     "this machine is no x86-64 processor", "name a level or a CPU");
    llvm::StringMap<bool> hostFeatures;
    for (const auto &feature : llvm::sys::getHostCPUFeatures())
      hostFeatures[feature.getKey()] = feature.getValue();
    if (!amxState().permitted)
      for (auto &feature : hostFeatures)
        if (feature.getKey().starts_with("amx-"))
          feature.setValue(false);
    target.chip = hostCpuName(hostFeatures);
    target.features = hostDifference(target.chip, hostFeatures);
  } else {
    target.chip = name;
    for (const Level &level : levels)
      if (level.name == name)
        target.chip = level.cpu;
  }

  SubtargetInfo plain = createSubtarget("x86-64", "");
  if (!plain->isCPUStringValid(target.chip)) {
    const auto known = plain->getAllProcessorDescriptions();
    const std::string level = levelNear(name, known);
    return unusable("target CPU is not known", name, "this LLVM has no such x86-64 processor",
                    level.empty() ? nearestNames(name, known) + "; or native, avx2, avx512"
                                  : fmt::format("did you mean '{}'?", level));
  }
  KF_TRY(auto listed, parseFeatures(featureList, target.chip, mayLead));
  target.features.insert(target.features.end(), listed.begin(), listed.end());
  target.enabled = enabledFeatures(*createSubtarget(target.chip, target.featureString()));
  for (std::string_view feature : requiredFeatures)
    if (!target.has(feature))
      return unusable("target is too small", target.chip, fmt::format("it has no {}", feature),
                      "kernels need AVX2, FMA and F16C at least: use avx2 or above");
  target.limits.vectorBits = target.has("avx512f") && target.has("evex512") ? 512 : 256;
  return target;
}

Status checkRunnable(const Target &target) {
  auto hostFeatures = llvm::sys::getHostCPUFeatures();
  std::vector<std::string> lacking;
  for (const std::string &feature : target.enabled) {
    auto found = hostFeatures.find(feature);
    if (found != hostFeatures.end() && !found->getValue() &&
        !llvm::is_contained(unusedByKernels, std::string_view(feature)))
      lacking.push_back(feature);
  }
  bool sameArchitecture = llvm::Triple(llvm::sys::getProcessTriple()).isX86();
  if (lacking.empty() && target.has("amx-tile") && !amxState().permitted)
    return missing("code for this target cannot run here", target.chip,
                   "the system does not let this process use the tile registers of AMX",
                   "use --target-cpu native, which does without them");
  if (lacking.empty() && sameArchitecture)
    return {};
  std::string why = sameArchitecture
                        ? fmt::format("this machine lacks {}", fmt::join(lacking, ", "))
                        : "this machine is no x86-64 processor";
  return missing("code for this target cannot run here", target.chip, why,
                 "use --target-cpu native, or only print the code");
}

Expected<std::unique_ptr<llvm::TargetMachine>> createTargetMachine(const Target &target) {
  const llvm::Target *x86 = x86Target();
  if (!x86)
    return missing("code generator is not here", target.triple, "this LLVM has no x86 target");
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard; // only what the IR itself fuses
  options.EmitStackSizeSection = true;                  // what stackBytes() reads
  std::unique_ptr<llvm::TargetMachine> machine(x86->createTargetMachine(
      target.triple, target.chip, target.featureString(), options, llvm::Reloc::PIC_,
      llvm::CodeModel::Small, llvm::CodeGenOptLevel::Aggressive, /*JIT=*/true));
  if (!machine)
    return failed("target machine cannot be made", target.chip, "LLVM refused the target");
  return machine;
}

} // namespace kernelforge
