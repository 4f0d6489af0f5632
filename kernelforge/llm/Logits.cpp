#include "kernelforge/llm/Logits.h"

#include <cmath>
#include <fmt/format.h>
#include <limits>

namespace kernelforge {

std::string describeDefect(std::span<const float> logits) {
  if (logits.empty())
    return "there are none";
  constexpr float most = std::numeric_limits<float>::max();
  // Two flags and no early end: what every token pays for is a loop of vectors.
  bool isBounded = true, isPossible = false;
  for (float logit : logits) {
    isBounded &= logit <= most; // false for NaN
    isPossible |= logit >= -most;
  }
  if (!isBounded)
    for (size_t i = 0; i < logits.size(); ++i)
      if (!(logits[i] <= most))
        return fmt::format("{} at id {}", std::fabs(logits[i]), i); // NaN has a sign
  return isPossible ? "" : "all are -inf";
}

Status checkLogits(std::span<const float> logits, int64_t tokens) {
  std::string defect = describeDefect(logits);
  if (defect.empty())
    return {};
  return failed(logitsError, fmt::format("after {} token{}", tokens, tokens == 1 ? "" : "s"),
                std::move(defect));
}

uint64_t hashLogits(std::span<const float> logits) {
  uint64_t hash = 0xcbf29ce484222325;
  for (std::byte byte : std::as_bytes(logits))
    hash = (hash ^ static_cast<uint64_t>(byte)) * 0x100000001b3;
  return hash;
}

} // namespace kernelforge
