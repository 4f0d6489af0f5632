// Chooses the next token from a row of logits.
//
// Order, each step on what the one before left: repetition penalty, then (temperature 0) the
// greatest logit, or else top-k, top-p, min-p, temperature, draw. Filters come before temperature,
// so top_p and min_p speak of the model's own distribution. Equal logits rank by lower id.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstdint>
#include <span>
#include <vector>

namespace kernelforge {

struct SamplingOptions {
  float temperature = 0.8f;  ///< 0: greedy; at most 100
  int32_t topK = 40;         ///< keep the K greatest; 0: all
  float topP = 0.95f;        ///< keep the fewest whose mass reaches this; (0, 1], 1: all
  float minP = 0.05f;        ///< keep what has this share of the greatest probability; [0, 1]
  float repeatPenalty = 1;   ///< divides positive, multiplies negative logits of recent ids; > 0
  int32_t repeatWindow = 64; ///< how many recent ids are penalised; 0: none
  uint64_t seed = 0;         ///< draws depend on it and on the position alone (CounterRandom.h)
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
  struct Candidate {
    float logit;
    int32_t id;
  };
  explicit Sampler(const SamplingOptions &options) : settings(options) {}
  void gather(std::span<const float> logits, std::span<const int32_t> history);
  void sortAtLeast(size_t count);
  void keepTopP();
  void keepMinP();
  int32_t draw(double uniform) const;

  SamplingOptions settings;
  std::vector<Candidate> candidates; ///< scratch, kept to avoid allocation for each token
  size_t sorted = 0;                 ///< how many at the front are in order
};

} // namespace kernelforge
