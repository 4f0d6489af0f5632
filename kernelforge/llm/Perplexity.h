// Perplexity and KL divergence, in f64, one row of logits at a time.
#pragma once

#include "kernelforge/llm/TokenizerData.h"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace kernelforge {

/// Tokens of window `index`. Windows follow each other without overlap; where the model wants BOS
/// it is in front, and the window's last token gives way.
std::vector<TokenId> windowOf(std::span<const TokenId> tokens, size_t index, size_t window,
                              std::optional<TokenId> bos);

/// The logarithm of the sum of exponentials of logits that are a distribution (checkLogits()).
double logSumExp(std::span<const float> logits);

/// Negative log-likelihood of tokens.
struct LikelihoodSum {
  double sum = 0;
  int64_t tokens = 0;

  /// `next` is the token that `logits`, a distribution, should have predicted; it is within them.
  /// Infinite from then on where it has no probability at all.
  void add(std::span<const float> logits, TokenId next);
  double mean() const { return tokens > 0 ? sum / static_cast<double>(tokens) : 0; }
  double perplexity() const;
};

/// Kullback-Leibler divergence of our distribution from a base one, in nats, token by token, and
/// how often both agree on the likeliest token.
struct Divergence {
  std::vector<double> values; ///< of each token, in order
  int64_t sameTop = 0;

  /// Two distributions of the same length. Infinite where ours gives no probability to a token that
  /// the base gives some.
  void add(std::span<const float> base, std::span<const float> ours);
  double mean() const;
  /// The value that a share `share` (0 to 1) of the tokens does not exceed, between two of them by
  /// linear interpolation; 0 of none.
  double quantile(double share) const;
  double sameTopShare() const;
};

} // namespace kernelforge
