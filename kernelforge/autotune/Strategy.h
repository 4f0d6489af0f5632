// How a schedule space is searched: a strategy proposes schedules and is told what they took. It
// neither compiles nor measures, so that it can be replayed on a recorded space. Adding a strategy
// is one file with a factory, registered by name.
#pragma once

#include "kernelforge/codegen/ScheduleSpace.h"

#include <memory>
#include <span>

namespace kernelforge {

/// One tried schedule.
struct Trial {
  KnobValues knobs;
  double seconds = 0; ///< time or ratio, positive, lower is better; infinity: it failed
};

/// Proposes schedules. The next proposals are a function of the options, of what was told and of
/// what was proposed and not yet told: a search that is told the records of an earlier run goes on
/// where that run was.
class Strategy {
public:
  virtual ~Strategy() = default;

  /// Up to `count` legal schedules, none that was proposed or told before; fewer, finally none,
  /// where no others are left.
  virtual std::vector<KnobValues> ask(size_t count) = 0;

  /// Results, of proposals or of other schedules (records of earlier runs, a user's pins). Of a
  /// schedule told again, the later result counts.
  virtual void tell(std::span<const Trial> trials) = 0;
};

/// A trial of another kernel with what its space predicted for it, so that the error of the
/// prediction can be learned from it.
struct PriorTrial {
  KnobValues knobs;
  double predicted = 0;
  double seconds = 0;
};

struct StrategyOptions {
  uint64_t seed = 0;

  /// Whether the schedule that is taken without measuring is proposed first.
  bool startFromAnalytic = true;

  /// Trials of other kernels of the same family and target, one list a kernel, the most similar
  /// kernel first. Trials without a knob of this space are not used.
  std::vector<std::vector<PriorTrial>> priors;
};

using StrategyFactory =
    std::function<std::unique_ptr<Strategy>(const ScheduleSpace &, const StrategyOptions &)>;

/// Strategies by name.
class StrategyRegistry {
public:
  /// Adds a strategy, or replaces the one of that name.
  void add(std::string name, StrategyFactory factory);

  /// A strategy that searches `space`, of which it keeps a copy. Unusable, listing the known names,
  /// where there is none of that name.
  Expected<std::unique_ptr<Strategy>> make(std::string_view name, const ScheduleSpace &space,
                                           const StrategyOptions &options) const;

  /// In alphabetical order.
  std::vector<std::string> names() const;

private:
  std::map<std::string, StrategyFactory, std::less<>> factories;
};

/// The strategies that come with KernelForge: evolutionary, grid, model, random.
StrategyRegistry defaultStrategies();

/// Every schedule, by a stride that spreads any number of them evenly over the space.
std::unique_ptr<Strategy> makeGridStrategy(const ScheduleSpace &, const StrategyOptions &);

/// Uniform over the legal schedules, without replacement: the line that others have to beat.
std::unique_ptr<Strategy> makeRandomStrategy(const ScheduleSpace &, const StrategyOptions &);

/// Mutates and crosses the best schedules so far.
std::unique_ptr<Strategy> makeEvolutionaryStrategy(const ScheduleSpace &, const StrategyOptions &);

/// Ranks schedules by the space's prediction, corrected by what the trials taught.
std::unique_ptr<Strategy> makeModelStrategy(const ScheduleSpace &, const StrategyOptions &);

} // namespace kernelforge
