#include "kernelforge/codegen/cuda/Target.h"

#include "kernelforge/codegen/cuda/Convention.h"
#include "kernelforge/support/Suggest.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <mutex>
#include <optional>

#include <fmt/format.h>

#include "llvm/ADT/StringRef.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Target/TargetOptions.h"

using namespace kernelforge;

namespace {

constexpr const char *targetTriple = "nvptx64-nvidia-cuda";

struct Chip {
  std::string_view name;
  int capability;         ///< 90: compute capability 9.0
  int leastPtx;           ///< version of PTX that first had it: 80 is 8.0
  int64_t sharedBytes;    ///< that a block can have
  bool onlyThere = false; ///< its code runs on this capability alone

  std::string ptx() const { return fmt::format("+ptx{}", leastPtx); }
};

/// Chips of this LLVM that today's toolkits still assemble for, the least first.
constexpr Chip chips[] = {{"sm_75", 75, 63, 64 * 1024},        {"sm_80", 80, 70, 163 * 1024},
                          {"sm_86", 86, 71, 99 * 1024},        {"sm_87", 87, 74, 163 * 1024},
                          {"sm_89", 89, 78, 99 * 1024},        {"sm_90", 90, 78, 227 * 1024},
                          {"sm_90a", 90, 80, 227 * 1024, true}};

const Chip *findChip(std::string_view name) {
  const auto *found = std::ranges::find(chips, name, &Chip::name);
  return found == std::end(chips) ? nullptr : found;
}

/// Of a device's chip, "sm_90": 90.
std::optional<int> capabilityOf(std::string_view chip) {
  constexpr std::string_view prefix = "sm_";
  int capability = 0;
  if (!chip.starts_with(prefix))
    return std::nullopt;
  chip.remove_prefix(prefix.size());
  const auto [end, error] = std::from_chars(chip.data(), chip.data() + chip.size(), capability);
  return error == std::errc() ? std::optional(capability) : std::nullopt;
}

/// The chip whose code suits a device best; null where the device is older than all.
const Chip *chipOf(const DeviceInfo &device) {
  const int capability = capabilityOf(device.chip).value_or(0);
  const Chip *best = nullptr;
  for (const Chip &chip : chips)
    if (chip.onlyThere ? chip.capability == capability : chip.capability <= capability)
      best = &chip;
  return best;
}

const llvm::Target *nvptx() {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
  });
  std::string error;
  return llvm::TargetRegistry::lookupTarget(targetTriple, error);
}

auto noNvptx() {
  return missing("code generator is not here", targetTriple, "this LLVM has no NVPTX target");
}

Limits limitsOf(const Chip &chip) {
  Limits limits;
  limits.sharedBytes = chip.sharedBytes;
  limits.registers = 255;
  limits.threadsPerBlock = 1024;
  limits.subgroupMin = limits.subgroupMax = 32;
  limits.blocksPerDimension = std::numeric_limits<int32_t>::max(); // in x
  limits.bufferAlignment = cuda::bufferAlignment;
  limits.bindingBytes = cuda::mostBufferBytes;
  limits.indexBits = 32;
  return limits;
}

/// "+ptx83" where a list of features names a version that has the chip; nothing for an empty list.
Expected<std::vector<std::string>> parseFeatures(llvm::StringRef list, const Chip &chip) {
  const llvm::Target *target = nvptx();
  if (!target)
    return noNvptx();
  std::unique_ptr<llvm::MCSubtargetInfo> subtarget(
      target->createMCSubtargetInfo(targetTriple, chip.name, ""));
  constexpr llvm::StringRef prefix = "ptx";
  std::vector<std::string> known, features;
  for (const llvm::SubtargetFeatureKV &feature : subtarget->getAllProcessorFeatures()) {
    int version = 0;
    llvm::StringRef name = feature.Key;
    if (name.consume_front(prefix) && !name.getAsInteger(10, version) && version >= chip.leastPtx)
      known.push_back(fmt::format("+{}", feature.Key));
  }
  llvm::SmallVector<llvm::StringRef> items;
  list.split(items, ',', -1, /*KeepEmpty=*/false);
  for (llvm::StringRef item : items) {
    if (std::ranges::find(known, item) == known.end())
      return unusable("target feature is not usable", item.str(),
                      fmt::format("a feature is a version of PTX that has {}", chip.name),
                      namesHint(item.str(), known));
    features = {item.str()};
  }
  return features;
}

Expected<const Chip *> chooseChip(std::string_view name, const DeviceInfo *device) {
  if (name == "portable" || (name.empty() && !device))
    return chips;
  if (const Chip *chip = findChip(name))
    return chip;
  if (!name.empty() && name != "native") {
    std::vector<std::string> words = cuda::chipNames();
    words.insert(words.end(), {"native", "portable"});
    return unusable("target is not known", std::string(name),
                    "this LLVM makes no code for such a chip", namesHint(name, words));
  }
  if (!device)
    return missing("native target is not here", "cuda", "there is no device",
                   "name a chip, such as sm_90a, or use portable");
  if (const Chip *chip = chipOf(*device))
    return chip;
  return missing("code for this device cannot be made", device->name,
                 fmt::format("it is a {}", device->chip),
                 fmt::format("use a device of {} or newer", chips[0].name));
}

} // namespace

std::vector<std::string> cuda::chipNames() {
  std::vector<std::string> names;
  for (const Chip &chip : chips)
    names.emplace_back(chip.name);
  return names;
}

Expected<Target> cuda::parseTarget(std::string_view name, std::string_view features,
                                   const DeviceInfo *device) {
  KF_TRY(const Chip *chip, chooseChip(name, device));
  Target target;
  target.kind = "cuda";
  target.triple = targetTriple;
  target.chip = chip->name;
  KF_TRY(target.features, parseFeatures(features, *chip));
  const std::string ptx = target.features.empty() ? chip->ptx() : target.features.front();
  target.enabled = {ptx.substr(1), target.chip};
  target.limits = device ? device->limits : limitsOf(*chip);
  return target;
}

Status cuda::checkRunnable(const Target &target, const DeviceInfo &device) {
  const Chip *chip = findChip(target.chip);
  const std::optional<int> capability = capabilityOf(device.chip);
  auto refuse = [&](std::string why) {
    return missing("code for this target cannot run here", target.chip, std::move(why),
                   "use --target-cpu native, or only print the code");
  };
  if (!chip || !capability || chip->capability > *capability)
    return refuse(fmt::format("{} is a {}, and older", device.name, device.chip));
  if (chip->onlyThere && chip->capability != *capability)
    return refuse(
        fmt::format("such code runs on that chip alone, and {} is a {}", device.name, device.chip));
  return {};
}

Expected<std::unique_ptr<llvm::TargetMachine>> cuda::createTargetMachine(const Target &target) {
  const llvm::Target *found = nvptx();
  if (!found)
    return noNvptx();
  const Chip *chip = findChip(target.chip);
  if (!chip)
    return unusable("target is not known", target.chip, "this LLVM makes no code for such a chip",
                    namesHint(target.chip, chipNames()));
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard; // only what the IR itself allows
  const std::string ptx = target.features.empty() ? chip->ptx() : target.featureString();
  std::unique_ptr<llvm::TargetMachine> machine(
      found->createTargetMachine(targetTriple, target.chip, ptx, options, /*RM=*/{}, /*CM=*/{},
                                 llvm::CodeGenOptLevel::Aggressive));
  if (!machine)
    return failed("target machine cannot be made", target.chip, "LLVM refused the target");
  return machine;
}
