#include "kernelforge/support/Sampling.h"

#include "kernelforge/support/CounterRandom.h"

#include <algorithm>
#include <bit>

namespace kernelforge {

SampleSettings SampleSettings::of(float temperature, float topP, float minP, float repeatPenalty) {
  // The sharpest there is: times the distance 0 it is 0 yet.
  constexpr float sharpest = 1e30F;
  const float sharpness = temperature > 0 ? std::min(1 / temperature, sharpest) : 0;
  return {sharpness, topP, minP, std::min(1 / repeatPenalty, sharpest), repeatPenalty};
}

namespace {

constexpr uint32_t signBit = 0x80000000, infinity = 0x7f800000, leastNormal = 0x00800000;

/// Of the bits of a float that is no NaN and not -inf.
uint32_t keyOfBits(uint32_t bits) {
  const uint32_t magnitude = bits & ~signBit, sign = bits & signBit;
  if (magnitude >= infinity)
    bits = sign | (infinity - 1);
  if (magnitude < leastNormal)
    bits = 0;
  return (bits & signBit) != 0 ? ~bits : bits | signBit;
}

} // namespace

uint32_t sampling::keyOf(float logit) {
  const auto bits = std::bit_cast<uint32_t>(logit);
  if ((bits & ~signBit) > infinity || bits == (infinity | signBit))
    return 0;
  return keyOfBits(bits);
}

float sampling::logitOf(uint32_t key) {
  return std::bit_cast<float>((key & signBit) != 0 ? key ^ signBit : ~key);
}

uint32_t sampling::penalisedKey(uint32_t key, const SampleSettings &settings) {
  if (key == 0)
    return 0;
  const float logit = logitOf(key);
  const float factor = (key & signBit) != 0 ? settings.positiveFactor : settings.negativeFactor;
  return keyOfBits(std::bit_cast<uint32_t>(logit * factor));
}

uint32_t sampling::weightOf(float greatest, float logit, float sharpness) {
  const float scaled = (greatest - logit) * sharpness;
  const float distance = scaled < cutoff ? scaled : cutoff; // what is no number, too
  const auto n = static_cast<uint32_t>(distance * 0x1p16F);
  // n * log2(e), in two parts that fit.
  const uint32_t z = n + (((n >> 10) * log2eFraction) >> 6) + (((n & 1023) * log2eFraction) >> 16);
  const uint32_t f = z & 0xffff;
  uint32_t power = fractionPowers[3];
  for (size_t i = 3; i-- > 0;)
    power = fractionPowers[i] - ((f * power) >> 16);
  return (unitWeight - ((f * power) >> 2)) >> (z >> 16);
}

//===----------------------------------------------------------------------===//
// Choosing
//===----------------------------------------------------------------------===//

/// Puts the `count` greatest candidates in front, in order.
void TokenSampler::sortAtLeast(size_t count) {
  count = std::min(count, candidates.size());
  if (count <= sorted)
    return;
  auto greater = [](const Candidate &a, const Candidate &b) {
    return a.key != b.key ? a.key > b.key : a.id < b.id;
  };
  auto from = candidates.begin() + static_cast<std::ptrdiff_t>(sorted);
  auto to = candidates.begin() + static_cast<std::ptrdiff_t>(count);
  // What is sorted already is greater than all the rest.
  if (to != candidates.end())
    std::nth_element(from, to, candidates.end(), greater);
  std::sort(from, to, greater);
  sorted = count;
  isById = false;
}

void TokenSampler::keepTopK(int32_t count) {
  if (count <= 0 || static_cast<size_t>(count) >= candidates.size())
    return;
  sortAtLeast(static_cast<size_t>(count));
  candidates.resize(static_cast<size_t>(count));
}

void TokenSampler::keepTopP(float topP) {
  if (!(topP < 1))
    return;
  auto weight = [&](const Candidate &c) -> uint64_t {
    return sampling::weightOf(greatest, sampling::logitOf(c.key), 1);
  };
  uint64_t total = 0;
  for (const Candidate &c : candidates)
    total += weight(c);
  const auto fraction = static_cast<uint32_t>(std::max(topP, 0.0F) * 0x1p24F) << 8;
  const uint64_t wanted = sampling::shareOf(total, fraction);
  uint64_t mass = 0;
  size_t kept = 0;
  do {
    if (kept == sorted) // few are needed as a rule: sort no more than that
      sortAtLeast(std::max<size_t>(64, 4 * sorted));
    mass += weight(candidates[kept++]);
  } while (mass < wanted);
  candidates.resize(kept);
  sorted = std::min(sorted, kept);
}

int32_t TokenSampler::choose(std::span<const float> logits, const SampleSettings &settings,
                             const SampleDraw &draw, std::span<const int32_t> recent) {
  candidates.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i)
    candidates[i] = {sampling::keyOf(logits[i]), static_cast<int32_t>(i)};
  if (settings.positiveFactor != 1 || settings.negativeFactor != 1)
    for (int32_t id : recent)
      if (id >= 0 &&
          static_cast<size_t>(id) < logits.size()) // from the original: once, however often
        candidates[id].key = sampling::penalisedKey(sampling::keyOf(logits[id]), settings);
  uint32_t greatestKey = 0;
  int32_t first = -1;
  for (const Candidate &c : candidates)
    if (c.key > greatestKey) {
      greatestKey = c.key;
      first = c.id;
    }
  if (first < 0 || !(settings.sharpness > 0))
    return first;

  std::erase_if(candidates, [](const Candidate &c) { return c.key == 0; });
  greatest = sampling::logitOf(greatestKey);
  sorted = 0;
  isById = true;
  keepTopK(draw.topK);
  keepTopP(settings.topP);
  const auto least = static_cast<uint32_t>(std::clamp(settings.minP, 0.0F, 1.0F) * 0x1p30F);
  auto logit = [](const Candidate &c) { return sampling::logitOf(c.key); };
  std::erase_if(candidates, [&](const Candidate &c) {
    return sampling::weightOf(greatest, logit(c), 1) < least;
  });
  if (!isById)
    std::sort(candidates.begin(), candidates.end(),
              [](const Candidate &a, const Candidate &b) { return a.id < b.id; });

  uint64_t total = 0;
  for (const Candidate &c : candidates)
    total += sampling::weightOf(greatest, logit(c), settings.sharpness);
  const std::array<uint32_t, 4> counter{static_cast<uint32_t>(draw.position),
                                        static_cast<uint32_t>(draw.position >> 32), 0, 0};
  const uint32_t random = philox4x32(counter, draw.seed)[0];
  const uint64_t passed = sampling::shareOf(total, random); // below the total
  uint64_t sum = 0;
  for (const Candidate &c : candidates) {
    sum += sampling::weightOf(greatest, logit(c), settings.sharpness);
    if (sum > passed)
      return c.id;
  }
  return first; // never: the last sum is the total
}

} // namespace kernelforge
