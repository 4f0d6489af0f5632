#include "kernelforge/autotune/Strategy.h"

#include "kernelforge/support/Suggest.h"

using namespace kernelforge;

void StrategyRegistry::add(std::string name, StrategyFactory factory) {
  factories.insert_or_assign(std::move(name), std::move(factory));
}

Expected<std::unique_ptr<Strategy>> StrategyRegistry::make(std::string_view name,
                                                           const ScheduleSpace &space,
                                                           const StrategyOptions &options) const {
  auto found = factories.find(name);
  if (found == factories.end())
    return unusable("no such search strategy", std::string(name), "there is none of that name",
                    namesHint(name, names()));
  return found->second(space, options);
}

std::vector<std::string> StrategyRegistry::names() const {
  std::vector<std::string> all;
  for (const auto &[name, factory] : factories)
    all.push_back(name);
  return all;
}

StrategyRegistry kernelforge::defaultStrategies() {
  StrategyRegistry registry;
  registry.add("grid", makeGridStrategy);
  registry.add("random", makeRandomStrategy);
  registry.add("evolutionary", makeEvolutionaryStrategy);
  registry.add("model", makeModelStrategy);
  return registry;
}
