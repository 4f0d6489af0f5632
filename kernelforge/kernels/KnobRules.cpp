#include "kernelforge/kernels/KnobRules.h"

#include "kernelforge/support/Suggest.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace kernelforge;

static int64_t nearestLegal(const KnobRule &rule, int64_t value) {
  const int64_t low = (rule.min + rule.multipleOf - 1) / rule.multipleOf;
  const int64_t high = std::max(low, rule.max / rule.multipleOf);
  const int64_t inside = std::clamp(value, low * rule.multipleOf, high * rule.multipleOf);
  return std::min((inside + rule.multipleOf / 2) / rule.multipleOf, high) * rule.multipleOf;
}

static Status checkKnobs(const std::vector<KnobRule> &rules, const KnobValues &values,
                         const std::string &where) {
  std::vector<std::string> names;
  for (const KnobRule &rule : rules) {
    names.push_back(rule.knob.name);
    auto refuse = [&](std::string why, std::string hint) {
      return unusable("schedule is not legal", where + ", knob " + rule.knob.name, std::move(why),
                      std::move(hint));
    };
    const std::string limit =
        rule.multipleOf == 1
            ? fmt::format("from {} to {}", rule.min, rule.max)
            : fmt::format("a multiple of {} from {} to {}", rule.multipleOf, rule.min, rule.max);
    const auto found = values.find(rule.knob.name);
    if (found == values.end())
      return refuse("the schedule does not give it", "give an integer " + limit);
    if (const int64_t nearest = nearestLegal(rule, found->second); nearest != found->second)
      return refuse(fmt::format("it is {}, but must be {}", found->second, limit),
                    fmt::format("the nearest legal value is {}", nearest));
  }
  for (const auto &[name, value] : values)
    if (std::ranges::find(names, name) == names.end())
      return unusable("schedule is not legal", where + ", knob " + name, "there is no such knob",
                      namesHint(name, names));
  return {};
}

ScheduleSpace kernelforge::spaceOf(std::vector<KnobRule> rules, std::string where) {
  ScheduleSpace space;
  for (KnobRule &rule : rules) {
    std::vector<int64_t> &values = rule.knob.values;
    rule.analytic = nearestLegal(rule, rule.analytic);
    std::erase_if(values, [&](int64_t value) { return nearestLegal(rule, value) != value; });
    values.push_back(rule.analytic);
    std::ranges::sort(values);
    const auto repeated = std::ranges::unique(values);
    values.erase(repeated.begin(), repeated.end());
    space.knobs.push_back(rule.knob);
    space.analytic[rule.knob.name] = rule.analytic;
  }
  space.check = [rules = std::move(rules), where = std::move(where)](const KnobValues &values) {
    return checkKnobs(rules, values, where);
  };
  return space;
}
