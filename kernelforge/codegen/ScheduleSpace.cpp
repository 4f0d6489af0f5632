#include "kernelforge/codegen/ScheduleSpace.h"

#include "kernelforge/support/Json.h"

#include <algorithm>

using namespace kernelforge;

uint64_t ScheduleSpace::size() const {
  uint64_t count = 1;
  for (const Knob &knob : knobs)
    if (__builtin_mul_overflow(count, knob.values.size(), &count))
      return UINT64_MAX;
  return count;
}

std::optional<KnobValues> ScheduleSpace::at(uint64_t index) const {
  KnobValues values;
  for (auto knob = knobs.rbegin(); knob != knobs.rend(); ++knob) {
    values[knob->name] = knob->values[index % knob->values.size()];
    index /= knob->values.size();
  }
  if (check && !check(values))
    return std::nullopt;
  return values;
}

std::vector<KnobValues> ScheduleSpace::legal(uint64_t limit) const {
  std::vector<KnobValues> all;
  for (uint64_t i = 0, n = size(); i < n; ++i)
    if (std::optional<KnobValues> values = at(i))
      all.push_back(std::move(*values));
  if (all.size() <= limit)
    return all;
  std::vector<KnobValues> some;
  for (uint64_t i = 0; i < limit; ++i)
    some.push_back(std::move(all[i * all.size() / limit]));
  return some;
}

std::string kernelforge::knobsText(const KnobValues &values) { return Json(values).dump(); }

Expected<KnobValues> kernelforge::parseKnobs(std::string_view text, std::string_view where) {
  KF_TRY(JsonDocument document,
         parseJson(text, "schedule is not usable", where, JsonLimits{64 << 10, 4, 256, 1024}));
  KF_TRY(auto members, document.root().members());
  KnobValues values;
  for (const auto &[name, value] : members) {
    KF_TRY(int64_t number, value.asInteger(INT32_MIN, INT32_MAX));
    values[name] = number;
  }
  return values;
}
