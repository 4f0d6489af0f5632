// What the strategies share: what was tried, what is out, and random schedules that were neither.
#pragma once

#include "kernelforge/autotune/Strategy.h"

#include <unordered_map>
#include <unordered_set>

namespace kernelforge {

/// A pseudo-random order of 0 .. size - 1 that needs no memory: element i is computed from i.
class RandomOrder {
public:
  RandomOrder(uint64_t size, uint64_t seed);
  uint64_t operator[](uint64_t i) const;

private:
  uint64_t size;
  uint64_t seed;
  unsigned halfBits = 1;
};

/// Combinations that sample() looks at: with a costly legality rule, well under a second.
inline constexpr uint64_t sampledCombinations = uint64_t(1) << 17;

/// A strategy that remembers. A subclass says which schedule comes next; this class keeps it from
/// proposing one twice.
class HistoryStrategy : public Strategy {
public:
  HistoryStrategy(const ScheduleSpace &space, const StrategyOptions &options);

  std::vector<KnobValues> ask(size_t count) final;
  void tell(std::span<const Trial> trials) final;

protected:
  /// The next proposal: legal and not seen; nothing where there is none.
  virtual std::optional<KnobValues> next() = 0;

  bool seen(const KnobValues &knobs) const { return seenTexts.contains(knobsText(knobs)); }

  /// Number of schedules told or proposed; proposals draw their random numbers by it, so that a
  /// resumed search draws the same ones.
  uint64_t seenCount() const { return seenTexts.size(); }

  /// A legal schedule not seen before, all such being equally likely; nothing where there is none.
  std::optional<KnobValues> nextRandom();

  /// Legal schedules in random order: all of them where the space is small, a sample where it is
  /// large.
  std::vector<KnobValues> sample(size_t most) const;

  /// Indices into history, fastest first.
  std::vector<size_t> ranking() const;

  /// The prediction's logarithm; 0 where there is no usable prediction.
  double logPredicted(const KnobValues &knobs) const;

  const ScheduleSpace space;
  const StrategyOptions options;
  std::vector<Trial> history;      ///< one entry a schedule, in the order they were first told
  std::vector<KnobValues> pending; ///< proposed, not told

private:
  std::unordered_set<std::string> seenTexts;
  std::unordered_map<std::string, size_t> told; ///< index into history
  uint64_t combinations;
  RandomOrder order;
  uint64_t drawn = 0; ///< elements of `order` behind which nothing is left
};

/// The position of a knob's value among those that a search tries, the nearest where it is another.
size_t valueIndex(const Knob &knob, const KnobValues &knobs);

} // namespace kernelforge
