#include "kernelforge/codegen/TargetJson.h"

namespace kernelforge {

namespace {

constexpr uint64_t longestWord = 256;
constexpr uint64_t mostWords = 4096;

struct LimitField {
  const char *name;
  int64_t Limits::*value;
};

constexpr LimitField limitFields[] = {{"workers", &Limits::workers},
                                      {"vector_bits", &Limits::vectorBits},
                                      {"shared_bytes", &Limits::sharedBytes},
                                      {"registers", &Limits::registers},
                                      {"threads_per_block", &Limits::threadsPerBlock},
                                      {"subgroup_min", &Limits::subgroupMin},
                                      {"subgroup_max", &Limits::subgroupMax},
                                      {"blocks_per_dimension", &Limits::blocksPerDimension},
                                      {"buffer_alignment", &Limits::bufferAlignment},
                                      {"bindings", &Limits::bindings},
                                      {"binding_bytes", &Limits::bindingBytes},
                                      {"memory_bytes", &Limits::memoryBytes},
                                      {"index_bits", &Limits::indexBits}};
static_assert(sizeof(Limits) == std::size(limitFields) * sizeof(int64_t), "each limit has a field");

Expected<std::vector<std::string>> words(const JsonView &json, std::string_view field) {
  KF_TRY(const std::vector<JsonView> elements, json.array(field, mostWords));
  std::vector<std::string> list;
  for (const JsonView &element : elements) {
    KF_TRY(list.emplace_back(), element.asString(longestWord));
  }
  return list;
}

} // namespace

Json targetJson(const Target &target) {
  Json limits = Json::object();
  for (const LimitField &field : limitFields)
    limits[field.name] = target.limits.*field.value;
  return {{"kind", target.kind},       {"triple", target.triple},
          {"chip", target.chip},       {"features", target.features},
          {"enabled", target.enabled}, {"limits", std::move(limits)}};
}

Expected<Target> targetFrom(const JsonView &json) {
  Target target;
  KF_TRY(target.kind, json.string("kind", longestWord));
  KF_TRY(target.triple, json.string("triple", longestWord));
  KF_TRY(target.chip, json.string("chip", longestWord));
  KF_TRY(target.features, words(json, "features"));
  KF_TRY(target.enabled, words(json, "enabled"));
  KF_TRY(const JsonView limits, json.object("limits"));
  for (const LimitField &field : limitFields) {
    KF_TRY(target.limits.*field.value, limits.integer(field.name, 0, INT64_MAX));
  }
  return target;
}

} // namespace kernelforge
