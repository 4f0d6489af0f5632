#include "kernelforge/measure/AccuracyJson.h"

#include <algorithm>
#include <limits>

namespace kernelforge {

Json accuracyJson(const Accuracy &a, std::string_view reference) {
  auto finite = [](double x) { return std::min(x, std::numeric_limits<double>::max()); };
  Json json = {{"reference", reference},      {"outputs", a.outputs},
               {"checked", a.checked},        {"max_abs", finite(a.maxAbs)},
               {"max_rel", finite(a.maxRel)}, {"l2_rel", finite(a.l2Rel)},
               {"cosine_diff", a.cosineDiff}, {"nan", a.nan},
               {"nan_in_both", a.nanInBoth},  {"poisoned_left", a.poisonedLeft},
               {"tolerance", a.tolerance},    {"pass", a.pass}};
  if (a.judged)
    json.update({{"yardstick_max_abs", a.yardstickMaxAbs},
                 {"yardstick_l2_rel", finite(a.yardstickL2Rel)},
                 {"max_reference", a.maxReference},
                 {"l2_tolerance", finite(a.l2Tolerance)},
                 {"why", a.why}});
  return json;
}

} // namespace kernelforge
