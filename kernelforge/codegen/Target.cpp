#include "kernelforge/codegen/Target.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace kernelforge {

bool Target::has(std::string_view feature) const {
  return std::binary_search(enabled.begin(), enabled.end(), feature);
}

std::string Target::featureString() const { return fmt::format("{}", fmt::join(features, ",")); }

std::string Target::key() const {
  std::string text = fmt::format("{} {} {} {}", kind, triple, chip, featureString());
  // How many threads run in step is part of code that lets them exchange values.
  if (has("subgroups"))
    text += fmt::format(" {}-{}", limits.subgroupMin, limits.subgroupMax);
  return text;
}

} // namespace kernelforge
