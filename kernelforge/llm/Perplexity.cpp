#include "kernelforge/llm/Perplexity.h"

#include <algorithm>
#include <cmath>
#include <numeric>

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

void Divergence::add(std::span<const float> base, std::span<const float> ours) {
  const double baseScale = logSumExp(base), ourScale = logSumExp(ours);
  double sum = 0;
  for (size_t i = 0; i < base.size(); ++i) {
    const double logBase = base[i] - baseScale, probability = std::exp(logBase);
    if (probability > 0) // p log p goes to 0 with p
      sum += probability * (logBase - (ours[i] - ourScale));
  }
  values.push_back(sum);
  sameTop += std::max_element(base.begin(), base.end()) - base.begin() ==
             std::max_element(ours.begin(), ours.end()) - ours.begin();
}

double Divergence::mean() const {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

double Divergence::quantile(double share) const {
  if (values.empty())
    return 0;
  std::vector<double> ordered = values;
  std::sort(ordered.begin(), ordered.end());
  const double place = share * static_cast<double>(ordered.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, ordered.size() - 1);
  return std::lerp(ordered[below], ordered[above], place - static_cast<double>(below));
}

double Divergence::sameTopShare() const {
  return values.empty() ? 0 : static_cast<double>(sameTop) / static_cast<double>(values.size());
}

} // namespace kernelforge
