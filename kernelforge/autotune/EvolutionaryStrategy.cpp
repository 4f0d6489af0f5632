#include "kernelforge/autotune/History.h"

#include "kernelforge/support/CounterRandom.h"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace kernelforge;

// One set for all kernels, chosen on made-up spaces that differ in shape (tests/unit/autotune).
static constexpr size_t founders = 6;         // before evolution starts
static constexpr size_t populationSize = 6;   // the best so far; few, because budgets are small
static constexpr size_t brood = 32;           // offspring of which the most promising is tried
static constexpr double randomShare = 0.1;    // of proposals: the way out of a local optimum
static constexpr double crossoverShare = 0.3; // of offspring
static constexpr double stepShare = 0.6;      // of mutations: a step; the rest go to any value
static constexpr double tradeShare = 0.2;   // of mutations: a step up for one down: keeps products
static constexpr double furtherShare = 0.4; // of mutations: one more follows
static constexpr double worst = 0.4;        // logarithms of times are cut off so far above the best
static constexpr double reach = 0.5;        // steps of knobs after which a trial tells little
static constexpr size_t maxPool = 16384;    // schedules of which the best predicted are founders

namespace {

/// Random numbers of one proposal.
class Draws {
public:
  Draws(uint64_t seed, uint64_t proposal) : stream(mixBits(seed) ^ mixBits(~proposal)) {}
  double uniform() { return randomUniform(stream, counter++); }
  size_t below(size_t bound) { return static_cast<size_t>(uniform() * static_cast<double>(bound)); }

private:
  uint64_t stream;
  uint64_t counter = 0;
};

/// A trial by the positions of its knobs' values.
struct Individual {
  std::vector<size_t> genes;
  double logPredicted = 0;
  double logTime = 0; ///< above the best, cut off
};

class EvolutionaryStrategy : public HistoryStrategy {
public:
  EvolutionaryStrategy(const ScheduleSpace &space, const StrategyOptions &options)
      : HistoryStrategy(space, options) {
    for (const std::vector<PriorTrial> &trials : options.priors) {
      auto best = std::ranges::min_element(trials, {}, &PriorTrial::seconds);
      if (best != trials.end() && sameKnobs(best->knobs) &&
          (!space.check || space.check(best->knobs)))
        promising.push_back(best->knobs);
    }
    std::vector<KnobValues> pool = sample(maxPool);
    std::vector<std::pair<double, size_t>> order;
    for (size_t i = 0; i < pool.size(); ++i)
      order.emplace_back(logPredicted(pool[i]), i);
    std::ranges::sort(order);
    // Neighbours in this order tend to be alike: leave some out.
    for (size_t i = 0; i < std::min(order.size(), 8 * founders); i += 8)
      promising.push_back(std::move(pool[order[i].second]));
  }

protected:
  std::optional<KnobValues> next() override {
    if (space.knobs.empty())
      return nextRandom();
    Draws draws(options.seed, seenCount());
    if (seenCount() < founders || draws.uniform() < randomShare)
      return found();
    const std::vector<Individual> population = ranked();
    if (population.empty())
      return nextRandom();
    std::optional<KnobValues> best;
    double bestGuess = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < brood; ++i) {
      const std::vector<size_t> genes = offspring(population, draws);
      KnobValues knobs;
      for (size_t k = 0; k < genes.size(); ++k)
        knobs[space.knobs[k].name] = space.knobs[k].values[genes[k]];
      if (seen(knobs) || (space.check && !space.check(knobs)))
        continue;
      const double guess = guessTime(population, genes, logPredicted(knobs));
      if (guess < bestGuess) {
        bestGuess = guess;
        best = std::move(knobs);
      }
    }
    return best ? best : nextRandom();
  }

private:
  bool sameKnobs(const KnobValues &knobs) const {
    return knobs.size() == space.knobs.size() &&
           std::ranges::all_of(space.knobs,
                               [&](const Knob &knob) { return knobs.contains(knob.name); });
  }

  /// Founders by turns: what the prediction and other kernels suggest, and random ones, because the
  /// prediction may be wrong.
  std::optional<KnobValues> found() {
    if (seenCount() % 2 == 0)
      for (const KnobValues &knobs : promising)
        if (!seen(knobs))
          return knobs;
    return nextRandom();
  }

  /// All trials, best first.
  std::vector<Individual> ranked() const {
    std::vector<Individual> all;
    const std::vector<size_t> order = ranking();
    if (order.empty() || !std::isfinite(history[order[0]].seconds))
      return all;
    const double best = history[order[0]].seconds;
    for (size_t i : order) {
      Individual one;
      for (const Knob &knob : space.knobs)
        one.genes.push_back(valueIndex(knob, history[i].knobs));
      one.logPredicted = logPredicted(history[i].knobs);
      one.logTime = std::min(std::log(history[i].seconds / best), worst);
      all.push_back(std::move(one));
    }
    return all;
  }

  std::vector<size_t> offspring(const std::vector<Individual> &population, Draws &draws) const {
    const size_t size = std::min(population.size(), populationSize);
    // The smaller of two draws: better parents more often.
    const auto parent = [&]() -> const Individual & {
      const size_t one = draws.below(size);
      return population[std::min(one, draws.below(size))];
    };
    std::vector<size_t> genes = parent().genes;
    if (draws.uniform() < crossoverShare) {
      const Individual &other = parent();
      for (size_t k = 0; k < genes.size(); ++k)
        if (draws.uniform() < 0.5)
          genes[k] = other.genes[k];
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
  void step(std::vector<size_t> &genes, size_t k, bool up) const {
    if (up)
      genes[k] = std::min(genes[k] + 1, space.knobs[k].values.size() - 1);
    else if (genes[k] > 0)
      --genes[k];
  }

  /// What the trials nearby took, and how the prediction differs from theirs as far as it was
  /// right so far.
  static double guessTime(const std::vector<Individual> &trials, const std::vector<size_t> &genes,
                          double logPredicted) {
    const double n = static_cast<double>(trials.size());
    double x = 0, y = 0, xx = 0, xy = 0;
    for (const Individual &trial : trials) {
      x += trial.logPredicted / n;
      y += trial.logTime / n;
    }
    for (const Individual &trial : trials) {
      xx += (trial.logPredicted - x) * (trial.logPredicted - x);
      xy += (trial.logPredicted - x) * (trial.logTime - y);
    }
    const double slope = xx > 0 ? std::clamp(xy / xx, 0.0, 1.0) : 0;
    double weights = 0, sum = 0;
    for (const Individual &trial : trials) {
      double distance = 0;
      for (size_t k = 0; k < genes.size(); ++k)
        distance += static_cast<double>(std::max(trial.genes[k], genes[k]) -
                                        std::min(trial.genes[k], genes[k]));
      const double weight = std::exp(-distance / reach);
      weights += weight;
      sum += weight * (trial.logTime + slope * (logPredicted - trial.logPredicted));
    }
    return weights > 0 ? sum / weights : worst; // all too far away for a double
  }

  std::vector<KnobValues> promising;
};

} // namespace

std::unique_ptr<Strategy> kernelforge::makeEvolutionaryStrategy(const ScheduleSpace &space,
                                                                const StrategyOptions &options) {
  return std::make_unique<EvolutionaryStrategy>(space, options);
}
