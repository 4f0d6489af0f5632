#include "kernelforge/llm/architectures/RopeScaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace kernelforge {

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

std::vector<double> yarnRopeFactors(int64_t rotaryDim, double theta, const YarnScaling &rule) {
  const auto dim = static_cast<double>(rotaryDim);
  // The dimension that turns so many times within the original context.
  auto dimensionOf = [&](double turns) {
    return dim * std::log(rule.originalContext / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(theta));
  };
  double low = dimensionOf(rule.betaFast), high = dimensionOf(rule.betaSlow);
  if (rule.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high)
    high += 0.001;
  std::vector<double> factors;
  for (int64_t i = 0; i < rotaryDim / 2; ++i) {
    const double share = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    factors.push_back(1 / (share / rule.factor + (1 - share)));
  }
  return factors;
}

double yarnMagnitude(double factor, double weight) {
  return factor <= 1 ? 1 : 0.1 * weight * std::log(factor) + 1;
}

double longRopeMagnitude(double factor, double originalContext) {
  return factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(originalContext));
}

} // namespace kernelforge
