#include "kernelforge/autotune/History.h"

#include <numeric>

using namespace kernelforge;

namespace {

class GridStrategy : public HistoryStrategy {
public:
  GridStrategy(const ScheduleSpace &space, const StrategyOptions &options)
      : HistoryStrategy(space, options), size(space.size()) {
    if (size < 2)
      return;
    // Multiples of the golden section never leave a gap much wider than the others, whenever one
    // stops; a stride without a common factor reaches every combination once. A stride that divides
    // the size would leave the last knobs at their first value for long.
    stride = static_cast<uint64_t>(static_cast<double>(size) / 1.618033988749895);
    while (std::gcd(stride, size) != 1)
      ++stride;
  }

protected:
  std::optional<KnobValues> next() override {
    while (visited < size) {
      std::optional<KnobValues> knobs = space.at(index);
      ++visited;
      index = index < size - stride ? index + stride : index - (size - stride);
      if (knobs && !seen(*knobs))
        return knobs;
    }
    return std::nullopt;
  }

private:
  uint64_t size;
  uint64_t stride = 0;
  uint64_t index = 0;
  uint64_t visited = 0;
};

} // namespace

std::unique_ptr<Strategy> kernelforge::makeGridStrategy(const ScheduleSpace &space,
                                                        const StrategyOptions &options) {
  return std::make_unique<GridStrategy>(space, options);
}
