#include "kernelforge/codegen/LaunchingJson.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace kernelforge {

namespace {

auto malformed(std::string why) {
  return unusable("launching is not usable", "", std::move(why),
                  "make it again from the kernel that it launches");
}

/// Names of an enumeration's values, in their order.
constexpr const char *accessNames[] = {"read", "write", "read_write"};
constexpr const char *kindNames[] = {"buffer", "workspace", "size", "map"};
constexpr const char *elementNames[] = {"u8", "i32", "f16", "f32", "bf16"};
constexpr const char *swizzleNames[] = {"none", "32", "64", "128"};
constexpr const char *contentsNames[] = {"uninitialised", "zeroed_once"};

template <typename Enum, size_t N>
Expected<Enum> named(const char *const (&names)[N], const Json &json) {
  for (size_t i = 0; i < N; ++i)
    if (json == names[i])
      return static_cast<Enum>(i);
  return malformed(fmt::format("{} is none of its names", json.dump()));
}

/// A field of an object; null where there is no such field, or no object.
const Json &field(const Json &json, const char *name) {
  static const Json none;
  const auto found = json.is_object() ? json.find(name) : json.end();
  return found == json.end() ? none : *found;
}

Expected<int64_t> integer(const Json &json, const char *name, int64_t min, int64_t max) {
  const Json &value = field(json, name);
  if (!value.is_number_integer() ||
      (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX))
    return malformed(fmt::format("'{}' is missing or no integer", name));
  const auto number = value.get<int64_t>();
  if (number < min || number > max)
    return malformed(fmt::format("'{}' is {}, it must be {} to {}", name, number, min, max));
  return number;
}

Expected<bool> boolean(const Json &json, const char *name) {
  const Json &value = field(json, name);
  if (!value.is_boolean())
    return malformed(fmt::format("'{}' is missing or neither true nor false", name));
  return value.get<bool>();
}

/// What `from` makes of each element of an array.
template <typename T>
Expected<std::vector<T>> listFrom(const Json &json, const char *name,
                                  Expected<T> (*from)(const Json &)) {
  const Json &value = field(json, name);
  if (!value.is_array())
    return malformed(fmt::format("'{}' is missing or no list", name));
  std::vector<T> list;
  for (const Json &element : value) {
    KF_TRY(T made, from(element));
    list.push_back(std::move(made));
  }
  return list;
}

template <typename T> Json listJson(const std::vector<T> &list, Json (*toJson)(const T &)) {
  Json json = Json::array();
  for (const T &element : list)
    json.push_back(toJson(element));
  return json;
}

Json termJson(const Term &term) {
  Json json = Json::array({term.size, term.divisor});
  if (term.beyond != 0)
    json.push_back(term.beyond);
  return json;
}

Expected<Term> termFrom(const Json &json) {
  if (!json.is_array() || json.size() < 2 || json.size() > 3 ||
      !std::ranges::all_of(json, [](const Json &number) { return number.is_number_integer(); }))
    return malformed("a term is not two or three integers");
  const auto size = json[0].get<int64_t>(), divisor = json[1].get<int64_t>();
  const int64_t beyond = json.size() > 2 ? json[2].get<int64_t>() : 0;
  if (size < 0 || size > INT32_MAX || divisor < 1 || beyond < 0)
    return malformed(
        fmt::format("a term of size {} beyond {} has divisor {}", size, beyond, divisor));
  return Term{static_cast<int>(size), divisor, beyond};
}

Json mapJson(const TensorMap &map) {
  Json json = {{"element", elementNames[static_cast<int>(map.element)]},
               {"shape", listJson(map.shape, extentJson)},
               {"strides", map.strides},
               {"box", map.box},
               {"swizzle", swizzleNames[static_cast<int>(map.swizzle)]}};
  if (map.toEnd)
    json["to_end"] = true;
  return json;
}

Expected<int64_t> positiveFrom(const Json &json) {
  return integer(Json{{"number", json}}, "number", 1, INT64_MAX);
}

Expected<TensorMap> mapFrom(const Json &json) {
  TensorMap map;
  KF_TRY(map.element, named<TensorMap::Element>(elementNames, field(json, "element")));
  KF_TRY(map.shape, listFrom(json, "shape", extentFrom));
  KF_TRY(map.strides, listFrom(json, "strides", positiveFrom));
  KF_TRY(map.box, listFrom(json, "box", positiveFrom));
  KF_TRY(map.swizzle, named<TensorMap::Swizzle>(swizzleNames, field(json, "swizzle")));
  if (json.contains("to_end")) {
    KF_TRY(map.toEnd, boolean(json, "to_end"));
  }
  return map;
}

Json parameterJson(const Parameter &parameter) {
  Json json = {{"kind", kindNames[static_cast<int>(parameter.kind)]},
               {"index", parameter.index},
               {"access", accessNames[static_cast<int>(parameter.access)]}};
  if (parameter.map)
    json["map"] = mapJson(*parameter.map);
  return json;
}

Expected<Parameter> parameterFrom(const Json &json) {
  Parameter parameter;
  KF_TRY(parameter.kind, named<Parameter::Kind>(kindNames, field(json, "kind")));
  KF_TRY(parameter.index, integer(json, "index", 0, INT32_MAX));
  KF_TRY(parameter.access, named<Access>(accessNames, field(json, "access")));
  if (json.contains("map")) {
    KF_TRY(parameter.map, mapFrom(json["map"]));
  }
  return parameter;
}

Json phaseJson(const Phase &phase) {
  return {{"entry", phase.entry},
          {"parameters", listJson(phase.parameters, parameterJson)},
          {"grid", extentJson(phase.grid)},
          {"block", phase.block},
          {"cluster", phase.cluster},
          {"shared_bytes", phase.sharedBytes},
          {"scratch_bytes", phase.scratchBytes},
          {"after_previous", phase.afterPrevious},
          {"co_resident", phase.coResident},
          {"starts_early", phase.startsEarly}};
}

Expected<Phase> phaseFrom(const Json &json) {
  Phase phase;
  const Json &entry = field(json, "entry"), &block = field(json, "block");
  if (!entry.is_string())
    return malformed("'entry' is missing or no text");
  phase.entry = entry.get<std::string>();
  KF_TRY(phase.parameters, listFrom(json, "parameters", parameterFrom));
  KF_TRY(phase.grid, extentFrom(field(json, "grid")));
  if (!block.is_array() || block.size() != phase.block.size())
    return malformed("'block' is no list of three numbers");
  for (size_t i = 0; i < phase.block.size(); ++i) {
    KF_TRY(phase.block[i], integer(Json{{"block", block[i]}}, "block", 1, 1 << 20));
  }
  KF_TRY(phase.cluster, integer(json, "cluster", 1, 1 << 20));
  KF_TRY(phase.sharedBytes, integer(json, "shared_bytes", 0, INT64_MAX));
  KF_TRY(phase.scratchBytes, integer(json, "scratch_bytes", 0, INT64_MAX));
  KF_TRY(phase.afterPrevious, boolean(json, "after_previous"));
  KF_TRY(phase.coResident, boolean(json, "co_resident"));
  KF_TRY(phase.startsEarly, boolean(json, "starts_early"));
  return phase;
}

Json workspaceJson(const Workspace &workspace) {
  return {{"bytes", extentJson(workspace.bytes)},
          {"alignment", workspace.alignment},
          {"contents", contentsNames[static_cast<int>(workspace.contents)]}};
}

Expected<Workspace> workspaceFrom(const Json &json) {
  Workspace workspace;
  KF_TRY(workspace.bytes, extentFrom(field(json, "bytes")));
  KF_TRY(workspace.alignment, integer(json, "alignment", 1, 1 << 30));
  KF_TRY(workspace.contents, named<Workspace::Contents>(contentsNames, field(json, "contents")));
  return workspace;
}

Status checkExtent(const Extent &extent, int sizes, const char *what) {
  for (const Term &term : extent.product)
    if (term.size < 0 || term.size >= sizes || term.divisor < 1 || term.beyond < 0)
      return malformed(
          fmt::format("{} follows size {}, the kernel has {}", what, term.size, sizes));
  if (extent.multiplier < 0)
    return malformed(fmt::format("{} overflows", what));
  return {};
}

Status checkMap(const Parameter &parameter, int sizes) {
  if (parameter.map.has_value() != (parameter.kind == Parameter::Kind::Map))
    return malformed("a parameter has a tensor map, or has none, against its kind");
  if (!parameter.map)
    return {};
  const TensorMap &map = *parameter.map;
  const size_t rank = map.shape.size();
  if (rank < 1 || rank > 5 || map.strides.size() != rank - 1 || map.box.size() != rank)
    return malformed(fmt::format("a tensor map has {} dimensions, {} strides and {} of a box", rank,
                                 map.strides.size(), map.box.size()));
  for (const Extent &extent : map.shape)
    KF_CHECK(checkExtent(extent, sizes, "a tensor map"));
  return {};
}

} // namespace

Json extentJson(const Extent &extent) {
  if (extent.isConstant() && !extent.atMost)
    return extent.multiplier;
  Json json = {{"multiplier", extent.multiplier}, {"product", listJson(extent.product, termJson)}};
  if (extent.atMost)
    json["at_most"] = *extent.atMost;
  return json;
}

Expected<Extent> extentFrom(const Json &json) {
  Extent extent;
  if (!json.is_object()) {
    KF_TRY(extent.multiplier, integer(Json{{"extent", json}}, "extent", 0, INT64_MAX));
    return extent;
  }
  KF_TRY(extent.multiplier, integer(json, "multiplier", 0, INT64_MAX));
  KF_TRY(extent.product, listFrom(json, "product", termFrom));
  if (json.contains("at_most")) {
    KF_TRY(extent.atMost, integer(json, "at_most", 0, INT64_MAX));
  }
  return extent;
}

Json launchingJson(const Launching &launching) {
  return {{"phases", listJson(launching.phases, phaseJson)},
          {"workspaces", listJson(launching.workspaces, workspaceJson)}};
}

Expected<Launching> launchingFrom(const Json &json) {
  Launching launching;
  KF_TRY(launching.phases, listFrom(json, "phases", phaseFrom));
  KF_TRY(launching.workspaces, listFrom(json, "workspaces", workspaceFrom));
  return launching;
}

Json costJson(const KernelCost &cost) {
  return {{"flop_terms", listJson(cost.flopTerms, extentJson)},
          {"byte_terms", listJson(cost.byteTerms, extentJson)},
          {"numerics", numericsName(cost.numerics)},
          {"is_whole", cost.isWhole}};
}

Expected<KernelCost> costFrom(const Json &json) {
  KernelCost cost;
  KF_TRY(cost.flopTerms, listFrom(json, "flop_terms", extentFrom));
  KF_TRY(cost.byteTerms, listFrom(json, "byte_terms", extentFrom));
  KF_TRY(cost.isWhole, boolean(json, "is_whole"));
  if (json.contains("numerics")) { // programs of before do not say
    const Json &name = field(json, "numerics");
    const auto numerics =
        name.is_string() ? numericsByName(name.get_ref<const std::string &>()) : std::nullopt;
    if (!numerics)
      return malformed("'numerics' is not the name of numerics");
    cost.numerics = *numerics;
  }
  return cost;
}

Status checkLaunching(const Launching &launching, int buffers, int sizes) {
  if (launching.phases.empty())
    return malformed("it has no phases");
  const auto workspaces = static_cast<int>(launching.workspaces.size());
  const int counts[] = {buffers, workspaces, sizes, buffers + workspaces};
  for (const Phase &phase : launching.phases) {
    if (phase.entry.empty())
      return malformed("a phase names no entry");
    KF_CHECK(checkExtent(phase.grid, sizes, "a grid"));
    for (const Parameter &parameter : phase.parameters) {
      const int kind = static_cast<int>(parameter.kind);
      if (parameter.index < 0 || parameter.index >= counts[kind])
        return malformed(fmt::format("a phase takes {} {} of {}", kindNames[kind], parameter.index,
                                     counts[kind]));
      KF_CHECK(checkMap(parameter, sizes));
    }
  }
  for (const Workspace &workspace : launching.workspaces)
    KF_CHECK(checkExtent(workspace.bytes, sizes, "a workspace"));
  return {};
}

} // namespace kernelforge
