#include "kernelforge/autotune/History.h"

#include "kernelforge/support/CounterRandom.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

using namespace kernelforge;

RandomOrder::RandomOrder(uint64_t size, uint64_t seed) : size(size), seed(seed) {
  while (halfBits < 32 && (size - 1) >> (2 * halfBits) != 0)
    ++halfBits;
}

uint64_t RandomOrder::operator[](uint64_t i) const {
  // A Feistel network is a bijection of 2 * halfBits bits; results beyond the size are sent through
  // again, which ends within the size because the cycle began there.
  const uint64_t mask = (uint64_t(1) << halfBits) - 1;
  do {
    uint64_t left = i >> halfBits, right = i & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      const uint64_t mixed = left ^ (randomBits(seed, right << 3 | round) & mask);
      left = right;
      right = mixed;
    }
    i = left << halfBits | right;
  } while (i >= size);
  return i;
}

HistoryStrategy::HistoryStrategy(const ScheduleSpace &space, const StrategyOptions &options)
    : space(space), options(options), combinations(space.size()),
      order(combinations, options.seed) {}

std::vector<KnobValues> HistoryStrategy::ask(size_t count) {
  std::vector<KnobValues> proposals;
  const auto propose = [&](KnobValues knobs) {
    seenTexts.insert(knobsText(knobs));
    pending.push_back(knobs);
    proposals.push_back(std::move(knobs));
  };
  if (count > 0 && options.startFromAnalytic && !space.analytic.empty() && !seen(space.analytic) &&
      (!space.check || space.check(space.analytic)))
    propose(space.analytic);
  while (proposals.size() < count) {
    std::optional<KnobValues> knobs = next();
    if (!knobs)
      break;
    propose(std::move(*knobs));
  }
  return proposals;
}

void HistoryStrategy::tell(std::span<const Trial> trials) {
  for (const Trial &trial : trials) {
    std::string text = knobsText(trial.knobs);
    seenTexts.insert(text);
    std::erase(pending, trial.knobs);
    auto [place, isNew] = told.emplace(std::move(text), history.size());
    if (isNew)
      history.push_back(trial);
    else
      history[place->second] = trial;
  }
}

std::optional<KnobValues> HistoryStrategy::nextRandom() {
  for (; drawn < combinations; ++drawn)
    if (std::optional<KnobValues> knobs = space.at(order[drawn]); knobs && !seen(*knobs))
      return knobs;
  return std::nullopt;
}

std::vector<KnobValues> HistoryStrategy::sample(size_t most) const {
  std::vector<KnobValues> found;
  for (uint64_t i = 0; i < std::min(combinations, sampledCombinations) && found.size() < most; ++i)
    if (std::optional<KnobValues> knobs = space.at(order[i]))
      found.push_back(std::move(*knobs));
  return found;
}

std::vector<size_t> HistoryStrategy::ranking() const {
  std::vector<size_t> order(history.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::ranges::sort(order, {}, [&](size_t i) { return std::pair(history[i].seconds, i); });
  return order;
}

double HistoryStrategy::logPredicted(const KnobValues &knobs) const {
  const double predicted = space.predict ? space.predict(knobs) : 1;
  return predicted > 0 && std::isfinite(predicted) ? std::log(predicted) : 0;
}

size_t kernelforge::valueIndex(const Knob &knob, const KnobValues &knobs) {
  auto found = knobs.find(knob.name);
  if (found == knobs.end())
    return 0;
  const auto place = std::ranges::lower_bound(knob.values, found->second);
  const size_t index = static_cast<size_t>(place - knob.values.begin());
  if (index == knob.values.size())
    return index - 1;
  const bool lowerIsNearer =
      index > 0 && found->second - knob.values[index - 1] < knob.values[index] - found->second;
  return lowerIsNearer ? index - 1 : index;
}
