#include "kernelforge/llm/ModelConfig.h"

#include <cmath>
#include <fmt/format.h>
#include <numbers>

namespace kernelforge {

std::string describeDefect(const ModelDescription &d) {
  if (d.heads % d.kvHeads != 0)
    return fmt::format("{} attention heads are no multiple of {} key/value heads", d.heads,
                       d.kvHeads);
  if (d.rope.present && d.headDim % 2 != 0)
    return fmt::format("the head dimension {} is odd, and RoPE rotates pairs", d.headDim);
  if (d.rope.present && (d.rope.rotaryDim % 2 != 0 || d.rope.rotaryDim > d.headDim))
    return fmt::format("{} rotary dimensions must be even and at most the head dimension {}",
                       d.rope.rotaryDim, d.headDim);
  if (!d.rope.frequencyFactors.empty() &&
      static_cast<int64_t>(d.rope.frequencyFactors.size()) != d.rope.rotaryDim / 2)
    return fmt::format("there are {} RoPE frequency factors, {} are needed",
                       d.rope.frequencyFactors.size(), d.rope.rotaryDim / 2);
  for (double factor : d.rope.frequencyFactors)
    if (!std::isfinite(factor) || factor <= 0)
      return fmt::format("the RoPE frequency factor {} is not finite and above 0", factor);
  return "";
}

std::vector<double> linearRopeFactors(int64_t count, double factor) {
  return std::vector<double>(static_cast<size_t>(count), factor);
}

std::vector<double> llama3RopeFactors(int64_t rotaryDim, double theta, const Llama3Scaling &rule) {
  std::vector<double> factors;
  for (int64_t i = 0; i < rotaryDim / 2; ++i) {
    const double frequency =
        std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotaryDim));
    const double wavelength = 2.0 * std::numbers::pi / frequency;
    const double low = rule.lowFrequencyFactor, high = rule.highFrequencyFactor;
    if (wavelength > rule.originalContext / low) {
      factors.push_back(rule.factor);
    } else if (wavelength < rule.originalContext / high) {
      factors.push_back(1.0);
    } else {
      const double smooth = (rule.originalContext / wavelength - low) / (high - low);
      factors.push_back(1.0 / ((1.0 - smooth) / rule.factor + smooth));
    }
  }
  return factors;
}

} // namespace kernelforge
