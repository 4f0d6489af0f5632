#include "kernelforge/codegen/webgpu/Target.h"

#include "kernelforge/codegen/webgpu/Methods.h"
#include "kernelforge/support/Suggest.h"

#include "llvm/ADT/StringRef.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <set>
#include <tuple>

using namespace kernelforge;
using namespace kernelforge::webgpu;

namespace {

constexpr std::string_view f16 = "shader-f16", subgroups = "subgroups", packedDot = "packed-dot";
constexpr std::string_view matrix = "subgroup-matrix";

/// Features of code that are single words. Timestamps are none: they change no code.
constexpr std::array codeFeatures = {f16, subgroups, packedDot};

/// What every implementation of WebGPU has (the standard's default limits).
Limits portableLimits() {
  Limits limits;
  limits.sharedBytes = 16384;
  limits.threadsPerBlock = 256;
  limits.blocksPerDimension = 65535;
  limits.bufferAlignment = 256;
  limits.bindings = 8;
  limits.bindingBytes = int64_t(128) << 20;
  limits.indexBits = 32;
  return limits;
}

bool isCodeFeature(std::string_view name) {
  return std::ranges::find(codeFeatures, name) != codeFeatures.end() || matrixShape(name);
}

/// What code with a feature has, too.
std::vector<std::string_view> neededBy(std::string_view feature) {
  const auto shape = matrixShape(feature);
  if (!shape)
    return {};
  return shape->type == "f16" ? std::vector{subgroups, f16} : std::vector{subgroups};
}

using Features = std::set<std::string, std::less<>>;

auto unknownFeature(llvm::StringRef item, const Features &there) {
  std::vector<std::string> names(there.begin(), there.end());
  for (std::string_view name : codeFeatures)
    if (!there.contains(name))
      names.emplace_back(name);
  if (std::ranges::none_of(names, [](const auto &name) { return matrixShape(name).has_value(); }))
    names.push_back(MatrixShape{"f16", 16, 16, 16}.feature());
  const std::string name = item.ltrim("+-").str();
  if (isCodeFeature(name))
    return unusable("target feature is not usable", item.str(),
                    "a feature begins with + (use it) or - (do without it)",
                    fmt::format("write -{}", name));
  return unusable("target feature is not known", item.str(), "WGSL has no such feature",
                  namesHint(name, names));
}

/// Changes `features` by a list of +x and -x. `device` is null where code is made for none.
Status applyList(llvm::StringRef list, const DeviceInfo *device, Features &features) {
  const Features there = features;
  llvm::SmallVector<llvm::StringRef> items;
  list.split(items, ',', -1, /*KeepEmpty=*/false);
  for (llvm::StringRef item : items) {
    item = item.trim();
    const std::string name = item.drop_front().str();
    const bool adds = item.starts_with("+");
    if (item == "-subgroup-matrix") {
      std::erase_if(features, [](const auto &one) { return matrixShape(one).has_value(); });
      continue;
    }
    if ((!adds && !item.starts_with("-")) || !isCodeFeature(name))
      return unknownFeature(item, there);
    if (!adds) {
      features.erase(name);
      continue;
    }
    if (device && !there.contains(name))
      return missing("target feature is not here", name,
                     fmt::format("{} does not have it", device->name),
                     "leave it out, or use portable to make code without running it");
    features.insert(name);
    for (std::string_view needed : neededBy(name))
      features.emplace(needed);
  }
  std::erase_if(features, [&](const std::string &one) {
    return std::ranges::any_of(neededBy(one),
                               [&](auto needed) { return !features.contains(needed); });
  });
  return {};
}

} // namespace

std::string MatrixShape::feature() const {
  return fmt::format("{}-{}-{}x{}x{}", matrix, type, m, n, k);
}

std::optional<MatrixShape> webgpu::matrixShape(std::string_view feature) {
  llvm::StringRef text(feature);
  MatrixShape shape;
  if (!text.consume_front(matrix) || !text.consume_front("-"))
    return std::nullopt;
  const auto [type, extents] = text.split('-');
  shape.type = type.str();
  text = extents;
  const bool isRight = !text.consumeInteger(10, shape.m) && text.consume_front("x") &&
                       !text.consumeInteger(10, shape.n) && text.consume_front("x") &&
                       !text.consumeInteger(10, shape.k) && text.empty();
  // Written one way only.
  if (!isRight || (shape.type != "f16" && shape.type != "i8") || shape.feature() != feature ||
      std::min({shape.m, shape.n, shape.k}) < 1)
    return std::nullopt;
  return shape;
}

std::vector<MatrixShape> webgpu::matrixShapes(const Target &target) {
  std::vector<MatrixShape> shapes;
  for (const std::string &feature : target.enabled)
    if (auto shape = matrixShape(feature))
      shapes.push_back(*shape);
  return shapes;
}

Expected<Target> webgpu::parseTarget(std::string_view chip, std::string_view features,
                                     const DeviceInfo *device) {
  Target target;
  target.kind = "webgpu";
  target.triple = "wgsl";
  const bool isPortable = chip == "portable" || (chip.empty() && !device);
  if (!isPortable && !chip.empty() && chip != "native")
    return unusable("target is not known", std::string(chip),
                    "WGSL is made for an adapter (native) or for any (portable)",
                    "use native or portable");
  if (!isPortable && !device)
    return missing("native target is not here", "webgpu", "there is no adapter",
                   "use portable to make code without one");
  target.chip = isPortable ? "portable" : "native";
  target.limits = isPortable ? portableLimits() : device->limits;
  Features enabled;
  if (!isPortable)
    for (const std::string &feature : device->features)
      if (isCodeFeature(feature))
        enabled.insert(feature);
  KF_CHECK(applyList(features, isPortable ? nullptr : device, enabled));
  target.enabled.assign(enabled.begin(), enabled.end());
  for (const std::string &feature : target.enabled)
    target.features.push_back("+" + feature);
  if (!target.has(subgroups)) {
    target.limits.subgroupMin = target.limits.subgroupMax = 0;
  } else if (isPortable) {
    const bool hasMatrices = !matrixShapes(target).empty();
    target.limits.subgroupMin = hasMatrices ? 32 : 4;
    target.limits.subgroupMax = hasMatrices ? 32 : 128;
  }
  return target;
}

Status webgpu::checkRunnable(const Target &target, const DeviceInfo &device) {
  auto refuse = [&](std::string why) {
    return missing("code for this target cannot run here", device.name, std::move(why),
                   "use --target-cpu native or portable");
  };
  const std::tuple<const char *, int64_t, int64_t> needs[] = {
      {"bytes of workgroup memory", target.limits.sharedBytes, device.limits.sharedBytes},
      {"threads of a workgroup", target.limits.threadsPerBlock, device.limits.threadsPerBlock},
      {"storage buffers of a stage", target.limits.bindings, device.limits.bindings},
      {"bytes of a binding", target.limits.bindingBytes, device.limits.bindingBytes}};
  for (const auto &[what, needed, there] : needs)
    if (needed > there)
      return refuse(fmt::format("it may need {} {}, the adapter has {}", needed, what, there));
  const bool emulates = target.has(emulatedMatrices);
  for (const std::string &feature : target.enabled)
    if (!(emulates && (feature == emulatedMatrices || matrixShape(feature))) &&
        std::ranges::find(device.features, feature) == device.features.end())
      return refuse(fmt::format("it may need {}, which the adapter does not have", feature));
  const Limits &made = target.limits, &here = device.limits;
  if (target.has(subgroups) &&
      (here.subgroupMin < made.subgroupMin || here.subgroupMax > made.subgroupMax))
    return refuse(
        fmt::format("it is for subgroups of {} to {} threads, the adapter's have {} to {}",
                    made.subgroupMin, made.subgroupMax, here.subgroupMin, here.subgroupMax));
  return {};
}
