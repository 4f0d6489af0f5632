#include "kernelforge/llm/Sampler.h"

#include "kernelforge/llm/Logits.h"
#include "kernelforge/support/CounterRandom.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>

namespace kernelforge {

namespace {

template <typename Number>
Status checkRange(std::string_view name, Number value, bool inside, std::string_view range) {
  if (inside) // false for NaN, whatever the range
    return {};
  return unusable("sampling option is not usable", std::string(name),
                  fmt::format("{} is not {}", value, range));
}

} // namespace

Expected<Sampler> Sampler::create(const SamplingOptions &o) {
  KF_CHECK(checkRange("temperature", o.temperature, o.temperature >= 0 && o.temperature <= 100,
                      "a number from 0 to 100"));
  KF_CHECK(checkRange("top-k", o.topK, o.topK >= 0, "0 or more"));
  KF_CHECK(checkRange("top-p", o.topP, o.topP > 0 && o.topP <= 1, "above 0 and at most 1"));
  KF_CHECK(checkRange("min-p", o.minP, o.minP >= 0 && o.minP <= 1, "a number from 0 to 1"));
  KF_CHECK(checkRange("repeat-penalty", o.repeatPenalty,
                      o.repeatPenalty > 0 && std::isfinite(o.repeatPenalty),
                      "a finite number above 0"));
  KF_CHECK(checkRange("repeat window", o.repeatWindow,
                      o.repeatWindow >= 0 && o.repeatWindow <= (1 << 20), "from 0 to 1048576"));
  return Sampler(o);
}

/// Fills `candidates` with what can be chosen at all, penalties applied.
void Sampler::gather(std::span<const float> logits, std::span<const int32_t> history) {
  candidates.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i)
    candidates[i] = {logits[i], static_cast<int32_t>(i)};
  if (settings.repeatPenalty != 1) {
    auto recent =
        history.last(std::min(history.size(), static_cast<size_t>(settings.repeatWindow)));
    for (int32_t id : recent) {
      if (id < 0 || static_cast<size_t>(id) >= logits.size())
        continue;
      // From the original: an id that occurs twice is penalised once.
      float logit = logits[id];
      if (!std::isfinite(logit))
        continue;
      logit = logit > 0 ? logit / settings.repeatPenalty : logit * settings.repeatPenalty;
      // A penalty can push a finite logit to infinity; it stays the greatest or the least there is.
      constexpr float most = std::numeric_limits<float>::max();
      candidates[id].logit = std::clamp(logit, -most, most);
    }
  }
  std::erase_if(candidates, [](const Candidate &c) {
    return c.logit == -std::numeric_limits<float>::infinity();
  });
  sorted = 0;
}

/// Puts the `count` greatest candidates in front, in order.
void Sampler::sortAtLeast(size_t count) {
  count = std::min(count, candidates.size());
  if (count <= sorted)
    return;
  auto greater = [](const Candidate &a, const Candidate &b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  auto from = candidates.begin() + sorted, to = candidates.begin() + count;
  // What is sorted already is greater than all the rest.
  if (to != candidates.end())
    std::nth_element(from, to, candidates.end(), greater);
  std::sort(from, to, greater);
  sorted = count;
}

void Sampler::keepTopP() {
  if (settings.topP >= 1)
    return;
  sortAtLeast(1);
  const double greatest = candidates[0].logit;
  double total = 0;
  for (const Candidate &c : candidates)
    total += std::exp(c.logit - greatest);
  double mass = 0;
  size_t kept = 0;
  do {
    if (kept == sorted) // few are needed as a rule: sort no more than that
      sortAtLeast(std::max<size_t>(64, 4 * sorted));
    mass += std::exp(candidates[kept++].logit - greatest);
  } while (kept < candidates.size() && mass < settings.topP * total);
  candidates.resize(kept);
  sorted = std::min(sorted, kept);
}

void Sampler::keepMinP() {
  if (settings.minP <= 0)
    return;
  sortAtLeast(1);
  // p >= minP * pMax, in logits.
  const double least = candidates[0].logit + std::log(static_cast<double>(settings.minP));
  std::erase_if(candidates, [&, first = candidates[0].id](const Candidate &c) {
    return c.id != first && c.logit < least;
  });
  sorted = std::min(sorted, candidates.size());
}

/// The candidate at which the running mass passes `uniform` of the whole.
int32_t Sampler::draw(double uniform) const {
  double greatest = candidates[0].logit;
  for (const Candidate &c : candidates)
    greatest = std::max<double>(greatest, c.logit);
  auto weight = [&](const Candidate &c) {
    return std::exp((c.logit - greatest) / settings.temperature);
  };
  double total = 0;
  for (const Candidate &c : candidates)
    total += weight(c);
  double left = uniform * total;
  for (const Candidate &c : candidates) {
    left -= weight(c);
    if (left < 0)
      return c.id;
  }
  return candidates.back().id; // rounding only
}

Expected<int32_t> Sampler::sample(std::span<const float> logits, std::span<const int32_t> history,
                                  uint64_t position) {
  KF_CHECK(checkLogits(logits, static_cast<int64_t>(position)));
  gather(logits, history);
  if (settings.temperature == 0) {
    sortAtLeast(1);
    return candidates[0].id;
  }
  if (settings.topK > 0 && static_cast<size_t>(settings.topK) < candidates.size()) {
    sortAtLeast(settings.topK);
    candidates.resize(settings.topK);
  }
  keepTopP();
  keepMinP();
  // By rank, or all by id: the choice must not depend on how a selection left the rest.
  if (sorted > 0)
    sortAtLeast(candidates.size());
  return draw(randomUniform(settings.seed, position));
}

} // namespace kernelforge
