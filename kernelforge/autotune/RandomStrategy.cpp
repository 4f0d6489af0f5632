#include "kernelforge/autotune/History.h"

using namespace kernelforge;

namespace {

/// Walks a random order of all combinations, skipping those that are not legal: no replacement, no
/// bound on rejections and no list of a space of 10^7 combinations.
class RandomStrategy : public HistoryStrategy {
public:
  using HistoryStrategy::HistoryStrategy;

protected:
  std::optional<KnobValues> next() override { return nextRandom(); }
};

} // namespace

std::unique_ptr<Strategy> kernelforge::makeRandomStrategy(const ScheduleSpace &space,
                                                          const StrategyOptions &options) {
  return std::make_unique<RandomStrategy>(space, options);
}
