// Chooses the next token from a row of logits.
//
// The options of language models around TokenSampler (support/Sampling.h), which says in which
// order they work and makes the same choices as the operation `sample` on every device.
#pragma once

#include "kernelforge/support/Error.h"
#include "kernelforge/support/Sampling.h"

#include <cstdint>
#include <span>

namespace kernelforge {

struct SamplingOptions {
  float temperature = 0.8f;  ///< 0: greedy; at most 100
  int32_t topK = 40;         ///< keep the K greatest; 0: all
  float topP = 0.95f;        ///< keep the fewest whose mass reaches this; (0, 1], 1: all
  float minP = 0.05f;        ///< keep what has this share of the greatest probability; [0, 1]
  float repeatPenalty = 1;   ///< divides positive, multiplies negative logits of recent ids; > 0
  int32_t repeatWindow = 64; ///< how many recent ids are penalised; 0: none
  uint64_t seed = 0;         ///< draws depend on it and on the position alone
};

class Sampler {
public:
  /// Error: an option outside its range, which the message states with the value.
  static Expected<Sampler> create(const SamplingOptions &options);

  /// The next token for position `position` of the sequence. `history` holds the ids so far, newest
  /// last; ids outside the logits are ignored. A logit of -inf is never chosen. Error: logits that
  /// are no distribution (checkLogits()).
  Expected<int32_t> sample(std::span<const float> logits, std::span<const int32_t> history,
                           uint64_t position);

  const SamplingOptions &options() const { return settings; }

private:
  explicit Sampler(const SamplingOptions &options) : settings(options) {}

  SamplingOptions settings;
  TokenSampler sampler;
};

} // namespace kernelforge
