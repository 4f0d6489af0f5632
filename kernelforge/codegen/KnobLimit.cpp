#include "kernelforge/codegen/KnobLimit.h"

#include <algorithm>

#include <fmt/format.h>

using namespace kernelforge;

std::string KnobLimit::text() const {
  std::string text = min == max ? std::to_string(min) : fmt::format("from {} to {}", min, max);
  if (min != max && multipleOf != 1)
    text = fmt::format("a multiple of {} {}", multipleOf, text);
  return with ? fmt::format("{} with {} {}", text, with, withValue) : text;
}

int64_t KnobLimit::nearest(int64_t value) const {
  const int64_t low = (min + multipleOf - 1) / multipleOf * multipleOf;
  const int64_t high = std::max(low, max / multipleOf * multipleOf);
  const int64_t inside = std::clamp(value, low, high);
  return std::min((inside + multipleOf / 2) / multipleOf * multipleOf, high);
}

static std::string placeOf(const std::string &where, const std::string &knob) {
  return where + ", knob " + knob;
}

Status KnobLimit::check(const std::string &where, const std::string &knob, int64_t value) const {
  const int64_t legal = nearest(value);
  if (legal == value)
    return {};
  return unusable("schedule is not legal", placeOf(where, knob),
                  fmt::format("it is {}, but must be {}", value, text()),
                  fmt::format("the nearest legal value is {}", legal));
}

Error KnobLimit::lacking(const std::string &where, const std::string &knob) const {
  return {ErrorKind::Unusable, "schedule is not legal", placeOf(where, knob),
          "the schedule does not give it", "give an integer " + text()};
}
