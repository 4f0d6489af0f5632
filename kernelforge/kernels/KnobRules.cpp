#include "kernelforge/kernels/KnobRules.h"

#include "kernelforge/support/Suggest.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace kernelforge;

static Status checkKnobs(const std::vector<KnobRule> &rules, const KnobValues &values,
                         const std::string &where) {
  std::vector<std::string> names;
  for (const KnobRule &rule : rules) {
    names.push_back(rule.knob.name);
    const auto found = values.find(rule.knob.name);
    if (found == values.end())
      return tl::unexpected(rule.limit.lacking(where, rule.knob.name));
    KF_CHECK(rule.limit.check(where, rule.knob.name, found->second));
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
    rule.analytic = rule.limit.nearest(rule.analytic);
    std::erase_if(values, [&](int64_t value) { return rule.limit.nearest(value) != value; });
    values.push_back(rule.analytic);
    std::ranges::sort(values);
    const auto repeated = std::ranges::unique(values);
    values.erase(repeated.begin(), repeated.end());
    space.knobs.push_back(rule.knob);
    space.analytic[rule.knob.name] = rule.analytic;
  }
  // The knobs are independent: any values of the others suit those given.
  space.complete = [analytic = space.analytic](KnobValues given) {
    given.insert(analytic.begin(), analytic.end());
    return given;
  };
  space.check = [rules = std::move(rules), where = std::move(where)](const KnobValues &values) {
    return checkKnobs(rules, values, where);
  };
  return space;
}
