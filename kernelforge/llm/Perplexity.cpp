#include "kernelforge/llm/Perplexity.h"

#include <algorithm>
#include <cmath>

namespace kernelforge {

std::vector<TokenId> windowOf(std::span<const TokenId> tokens, size_t index, size_t window,
                              std::optional<TokenId> bos) {
  const auto part = tokens.subspan(index * window, window);
  std::vector<TokenId> ids(part.begin(), part.end());
  if (bos) {
    ids.pop_back();
    ids.insert(ids.begin(), *bos);
  }
  return ids;
}

double logSumExp(std::span<const float> logits) {
  const float top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits)
    sum += std::exp(logit - top); // in f32: 50,000 terms a token, each at most 1
  return top + std::log(sum);
}

void LikelihoodSum::add(std::span<const float> logits, TokenId next) {
  sum += logSumExp(logits) - logits[static_cast<size_t>(next)];
  ++tokens;
}

double LikelihoodSum::perplexity() const { return std::exp(mean()); }

void DivergenceSum::add(std::span<const float> base, std::span<const float> ours) {
  const double baseScale = logSumExp(base), ourScale = logSumExp(ours);
  for (size_t i = 0; i < base.size(); ++i) {
    const double logBase = base[i] - baseScale, probability = std::exp(logBase);
    if (probability > 0) // p log p goes to 0 with p
      sum += probability * (logBase - (ours[i] - ourScale));
  }
  sameTop += std::max_element(base.begin(), base.end()) - base.begin() ==
             std::max_element(ours.begin(), ours.end()) - ours.begin();
  ++tokens;
}

double DivergenceSum::sameTopShare() const {
  return tokens > 0 ? static_cast<double>(sameTop) / static_cast<double>(tokens) : 0;
}

} // namespace kernelforge
