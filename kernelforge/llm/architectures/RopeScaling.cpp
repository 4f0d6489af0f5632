#include "kernelforge/llm/architectures/RopeScaling.h"

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

} // namespace kernelforge
