#include "kernelforge/autotune/LearningStrategy.h"

#include "kernelforge/support/CounterRandom.h"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace kernelforge;

// One set for all kernels, chosen on made-up spaces that differ in shape (tests/unit/autotune).
static constexpr size_t populationSize = 6;   // the best so far; few, because budgets are small
static constexpr size_t brood = 64;           // offspring of which the most promising is tried
static constexpr size_t immigrants = 128;     // of the pool, that compete with them
static constexpr double crossoverShare = 0.3; // of offspring
static constexpr double stepShare = 0.6;      // of mutations: a step; the rest go to any value
static constexpr double tradeShare = 0.2;   // of mutations: a step up for one down: keeps products
static constexpr double furtherShare = 0.4; // of mutations: one more follows

namespace {

/// A schedule by the positions of its knobs' values.
using Genes = std::vector<size_t>;

/// Random numbers of one proposal.
class Draws {
public:
  explicit Draws(uint64_t stream) : stream(stream) {}
  double uniform() { return randomUniform(stream, counter++); }
  size_t below(size_t bound) { return static_cast<size_t>(uniform() * static_cast<double>(bound)); }

private:
  uint64_t stream;
  uint64_t counter = 1; // 0 decided whether the proposal is random
};

/// Each proposal is the most promising of a brood: offspring of the best trials, and immigrants.
class EvolutionaryStrategy : public LearningStrategy {
public:
  using LearningStrategy::LearningStrategy;

protected:
  std::optional<KnobValues> next() override {
    learn();
    if (space.knobs.empty() || randomNext())
      return nextRandom();
    Draws draws(stream());
    const CostModel model = fit(draws.uniform());
    std::optional<KnobValues> chosen;
    double chosenScore = -std::numeric_limits<double>::infinity();
    const auto compete = [&](const Candidate &candidate) {
      const double value = score(model, candidate.point);
      if (value > chosenScore) {
        chosenScore = value;
        chosen = candidate.knobs;
      }
    };
    for (size_t i = 0; i < immigrants && !pool.empty(); ++i)
      if (const Candidate &candidate = pool[draws.below(pool.size())]; !candidate.out)
        compete(candidate);
    const std::vector<Genes> parents = population();
    for (size_t i = 0; i < brood && !parents.empty(); ++i) {
      const Genes genes = offspring(parents, draws);
      KnobValues knobs;
      for (size_t k = 0; k < genes.size(); ++k)
        knobs[space.knobs[k].name] = space.knobs[k].values[genes[k]];
      if (!space.check || space.check(knobs)) {
        if (!seen(knobs))
          compete(candidateOf(std::move(knobs)));
      } else if (const Candidate *legal = nearest(genes)) {
        compete(*legal);
      }
    }
    return chosen ? chosen : nextRandom();
  }

private:
  /// The best trials that succeeded, best first.
  std::vector<Genes> population() const {
    std::vector<Genes> all;
    for (size_t i : ranking()) {
      if (all.size() == populationSize || !std::isfinite(history[i].seconds))
        break;
      Genes &genes = all.emplace_back();
      for (const Knob &knob : space.knobs)
        genes.push_back(valueIndex(knob, history[i].knobs));
    }
    return all;
  }

  Genes offspring(const std::vector<Genes> &population, Draws &draws) const {
    // The smaller of two draws: better parents more often.
    const auto parent = [&]() -> const Genes & {
      const size_t one = draws.below(population.size());
      return population[std::min(one, draws.below(population.size()))];
    };
    Genes genes = parent();
    if (draws.uniform() < crossoverShare) {
      const Genes &other = parent();
      for (size_t k = 0; k < genes.size(); ++k)
        if (draws.uniform() < 0.5)
          genes[k] = other[k];
    }
    do {
      const size_t k = draws.below(genes.size());
      const double kind = draws.uniform();
      const bool up = draws.uniform() < 0.5;
      if (kind < tradeShare) {
        step(genes, k, up);
        step(genes, draws.below(genes.size()), !up);
      } else if (kind < tradeShare + stepShare) {
        step(genes, k, up);
      } else {
        genes[k] = draws.below(space.knobs[k].values.size());
      }
    } while (draws.uniform() < furtherShare);
    return genes;
  }

  /// Takes the value beside a knob's value, where there is one.
  void step(Genes &genes, size_t k, bool up) const {
    if (up)
      genes[k] = std::min(genes[k] + 1, space.knobs[k].values.size() - 1);
    else if (genes[k] > 0)
      --genes[k];
  }

  /// The schedule of the pool that is left and fewest steps away from an illegal one: legal ones
  /// may lie so far apart that hardly a mutation meets one.
  const Candidate *nearest(const Genes &genes) const {
    const Candidate *found = nullptr;
    double least = std::numeric_limits<double>::infinity();
    for (const Candidate &candidate : pool) {
      if (candidate.out)
        continue;
      double distance = 0;
      for (size_t k = 0; k < genes.size() && distance < least; ++k)
        distance += std::abs(candidate.point.steps[k] - static_cast<double>(genes[k]));
      if (distance < least) {
        least = distance;
        found = &candidate;
      }
    }
    return found;
  }
};

} // namespace

std::unique_ptr<Strategy> kernelforge::makeEvolutionaryStrategy(const ScheduleSpace &space,
                                                                const StrategyOptions &options) {
  return std::make_unique<EvolutionaryStrategy>(space, options);
}
