// What the strategies that learn share: a pool of legal schedules, what was measured as a model
// sees it, and a model fitted to it that says how much a schedule promises.
#pragma once

#include "kernelforge/autotune/CostModel.h"
#include "kernelforge/autotune/History.h"

namespace kernelforge {

class LearningStrategy : public HistoryStrategy {
public:
  LearningStrategy(const ScheduleSpace &space, const StrategyOptions &options);

protected:
  struct Candidate {
    KnobValues knobs;
    ModelPoint point;
    bool out = false; ///< proposed or told
  };

  /// Takes in what happened since the last proposal. Before the others.
  void learn();

  /// Whether the next proposal is random: every other of the first few, later some.
  bool randomNext() const;

  /// One of the models that differ in what they assume, the more often the better the trials
  /// confirm it. `draw` in [0, 1) chooses.
  CostModel fit(double draw) const;

  /// How much a schedule promises: its speed before anything was measured, then the logarithm of
  /// the expected improvement on the best.
  double score(const CostModel &model, const ModelPoint &point) const;

  Candidate candidateOf(KnobValues knobs) const;

  /// The stream of random numbers of the next proposal.
  uint64_t stream() const;

  std::vector<Candidate> pool;
  bool complete = false;          ///< the pool is the whole space
  double best = 0;                ///< infinity where nothing succeeded
  std::vector<ModelPoint> points; ///< of the history

private:
  ModelPoint pointOf(const KnobValues &knobs, double logPredicted) const;

  /// Of the trials of other kernels at most maxPriors: the kernels are taken in their order, four
  /// at least and until they have enough; each gives the same number at most, evenly spread over
  /// its trials.
  std::vector<Observation> takenPriors() const;
  void takeOut(const KnobValues &knobs);

  std::unordered_map<std::string, size_t> places; ///< in the pool, by schedule
  double center = 0;                              ///< mean log(predicted) of the pool
  OtherTrials others;
};

} // namespace kernelforge
