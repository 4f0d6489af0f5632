// How a token is chosen from a row of logits: the arithmetic that every device repeats bit by bit.
//
// Floats are compared by their bits, and probabilities are integers: sums of integers do not depend
// on their order, so a seed gives the same tokens whatever computes them. Of floats there are left
// a subtraction and products, each rounded once, which are the same everywhere.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace kernelforge {

/// What the options of a row come to. The operation `sample` reads them as a row of five f32.
struct SampleSettings {
  float sharpness = 0;      ///< 1 / temperature; 0: the greatest logit, nothing is drawn
  float topP = 1;           ///< keep the fewest whose mass reaches this; (0, 1], 1: all
  float minP = 0;           ///< keep what has this share of the greatest probability; [0, 1]
  float positiveFactor = 1; ///< of positive logits of recent ids: 1 / repetition penalty
  float negativeFactor = 1; ///< of negative ones: the repetition penalty

  /// Of a temperature (0: greedy) and a repetition penalty above 0 (1: none).
  static SampleSettings of(float temperature, float topP, float minP, float repeatPenalty);

  /// As the operation reads them.
  std::array<float, 5> row() const {
    return {sharpness, topP, minP, positiveFactor, negativeFactor};
  }
};

/// What a draw depends on besides. `sample` reads them as a row of three i32: topK, and the low and
/// the high half of the seed.
struct SampleDraw {
  int32_t topK = 0;      ///< keep the K greatest; 0: all
  uint64_t seed = 0;     ///< a draw depends on it and on the position alone
  uint64_t position = 0; ///< of the token that is chosen
};

namespace sampling {

/// Keys order logits as unsigned integers. 0: never chosen (-inf, NaN); numbers begin at leastKey.
constexpr uint32_t leastKey = 0x00800000;
/// A weight is round down(unitWeight * probability / greatest probability).
constexpr int unitShift = 30;
constexpr uint32_t unitWeight = uint32_t(1) << unitShift;
/// Distances from the greatest logit, times sharpness, from which on the weight is 0.
constexpr float cutoff = 21.4F;
/// log2(e) - 1, times 2^16.
constexpr uint32_t log2eFraction = 29013;
/// 2^-f = 1 - f (c0 - f (c1 - f (c2 - f c3))) for f from 0 to 1, to 3e-6; times 2^16.
constexpr std::array<uint32_t, 4> fractionPowers{45419, 15690, 3487, 449};

/// The key of a logit. Zeros and numbers too small to be normal are one and the same, +inf counts
/// as the greatest number.
uint32_t keyOf(float logit);
/// The logit that has this key.
float logitOf(uint32_t key);
/// The logit of a recent id, whose key is given.
uint32_t penalisedKey(uint32_t key, const SampleSettings &settings);
/// unitWeight * exp(-(greatest - logit) * sharpness), to 5e-5 of itself.
uint32_t weightOf(float greatest, float logit, float sharpness);
/// total * fraction / 2^32, rounded down.
constexpr uint64_t shareOf(uint64_t total, uint32_t fraction) {
  return (total >> 32) * fraction + (((total & 0xffffffff) * fraction) >> 32);
}

} // namespace sampling

/// Chooses tokens; keeps its memory between them.
class TokenSampler {
public:
  /// The id that is chosen, or -1 where no logit is a number. Each step works on what the one
  /// before left: penalties on the ids in `recent` (once each; ids that are none are passed over),
  /// then, with sharpness 0, the greatest logit, or else top-k, top-p, min-p, and a draw by weights
  /// at the sharpness. Filters come before temperature: they speak of the model's own distribution.
  /// Equal logits rank by lower id; the draw goes through what is left by id.
  int32_t choose(std::span<const float> logits, const SampleSettings &settings,
                 const SampleDraw &draw, std::span<const int32_t> recent);

private:
  struct Candidate {
    uint32_t key;
    int32_t id;
  };
  void sortAtLeast(size_t count);
  void keepTopK(int32_t count);
  void keepTopP(float topP);

  std::vector<Candidate> candidates;
  size_t sorted = 0;  ///< how many at the front are in order
  bool isById = true; ///< all are in order of their ids
  float greatest = 0; ///< logit
};

} // namespace kernelforge
