#include "kernelforge/autotune/LearningStrategy.h"

#include "kernelforge/support/CounterRandom.h"

#include <algorithm>
#include <limits>

using namespace kernelforge;

namespace {

/// Proposes what promises most of the whole pool.
class ModelStrategy : public LearningStrategy {
public:
  using LearningStrategy::LearningStrategy;

protected:
  std::optional<KnobValues> next() override {
    learn();
    if (randomNext())
      return nextRandom();
    const CostModel model = fit(randomUniform(stream(), 1));
    std::vector<Candidate> more;
    if (!complete)
      more = neighbours();
    const Candidate *chosen = nullptr;
    double chosenScore = -std::numeric_limits<double>::infinity();
    for (const std::vector<Candidate> *candidates : {&pool, &more})
      for (const Candidate &candidate : *candidates) {
        if (candidate.out)
          continue;
        const double value = score(model, candidate.point);
        if (value > chosenScore) {
          chosenScore = value;
          chosen = &candidate;
        }
      }
    return chosen ? chosen->knobs : nextRandom();
  }

private:
  /// The schedules one step away from the best three: where the space is too large to be ranked as
  /// a whole.
  std::vector<Candidate> neighbours() const {
    std::vector<Candidate> found;
    std::vector<size_t> order = ranking();
    order.resize(std::min<size_t>(order.size(), 3));
    for (size_t i : order)
      for (const Knob &knob : space.knobs) {
        const size_t place = valueIndex(knob, history[i].knobs);
        for (size_t other : {place - 1, place + 1}) {
          if (other >= knob.values.size()) // place - 1 wraps
            continue;
          KnobValues knobs = history[i].knobs;
          knobs[knob.name] = knob.values[other];
          if (seen(knobs) || (space.check && !space.check(knobs)))
            continue;
          found.push_back(candidateOf(std::move(knobs)));
        }
      }
    return found;
  }
};

} // namespace

std::unique_ptr<Strategy> kernelforge::makeModelStrategy(const ScheduleSpace &space,
                                                         const StrategyOptions &options) {
  return std::make_unique<ModelStrategy>(space, options);
}
