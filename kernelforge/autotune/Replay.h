// Strategies judged on recorded spaces: where every schedule of a space was measured once, a search
// costs nothing and can be repeated with many seeds.
#pragma once

#include "kernelforge/autotune/Strategy.h"

#include <unordered_map>

namespace kernelforge {

/// One measured schedule of a space.
struct ReplayPoint {
  KnobValues knobs;
  double seconds = 0; ///< infinity where the candidate failed
  double predicted = 0;
};

/// A space of which every legal schedule was measured.
struct ReplaySpace {
  std::string problem;
  std::string cpu;
  ScheduleSpace space;                             ///< legal is what was measured
  std::unordered_map<std::string, double> seconds; ///< by knobsText
  double best = 0;

  /// Whether a time is within 95 % of the space's best.
  bool isGood(double time) const { return time <= best / 0.95; }
};

/// The space whose legal schedules are `points`, of which one at least did not fail.
ReplaySpace makeReplaySpace(std::vector<Knob> knobs, std::span<const ReplayPoint> points);

/// Reads a recorded space: {"problem", "cpu", "knobs": [{"name", "values"}], "points": [[value of
/// each knob, in the order of "knobs", ..., seconds, predicted]], "best_seconds", "analytic":
/// {name: value}}; seconds null is a failed candidate. Other fields are for people. Unusable,
/// naming the field, where it is not well-formed.
Expected<ReplaySpace> parseReplaySpace(std::string_view text, std::string_view where);

/// The same from a file.
Expected<ReplaySpace> readReplaySpace(const std::string &path);

struct ReplayRun {
  size_t trials = 0;              ///< until the best found is within 95 % of the space's best
  std::vector<double> trajectory; ///< best found after each of those trials
};

/// One search, asking for `batch` schedules at a time. The analytic default is kept from the
/// strategy: this judges the search, not the default. `priors` are StrategyOptions::priors.
Expected<ReplayRun> replay(const ReplaySpace &recorded, const StrategyRegistry &registry,
                           std::string_view strategy, uint64_t seed, size_t batch = 1,
                           std::vector<std::vector<PriorTrial>> priors = {});

struct ReplaySummary {
  std::string strategy;
  size_t median = 0; ///< trials
  size_t p90 = 0;
};

/// Trials that each strategy needs on each of `spaces`, over `seeds` seeds: one list a space, in
/// the order of `strategies`. A search also has `records` trials of each other one of them with the
/// same knobs: the first that the model strategy makes there with the same seed and no records.
Expected<std::vector<std::vector<ReplaySummary>>>
replaySummaries(std::span<const ReplaySpace> spaces, const StrategyRegistry &registry,
                std::span<const std::string> strategies, uint64_t seeds, size_t records = 0);

} // namespace kernelforge
