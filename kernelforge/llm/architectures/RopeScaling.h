// Rules by which models stretch RoPE beyond the context that they were trained for, as factors that
// divide each frequency.
#pragma once

#include <cstdint>
#include <vector>

namespace kernelforge {

/// Linear scaling: every frequency divided by `factor`. `count` is rotaryDim / 2.
std::vector<double> linearRopeFactors(int64_t count, double factor);

/// Llama 3's rule: long wavelengths divided by `factor`, short ones kept, smooth between.
struct Llama3Scaling {
  double factor, lowFrequencyFactor, highFrequencyFactor, originalContext;
};
std::vector<double> llama3RopeFactors(int64_t rotaryDim, double theta, const Llama3Scaling &rule);

/// YaRN (Peng et al. 2023): frequencies that turn more than `betaFast` times within the original
/// context are kept, those that turn less than `betaSlow` times divided by `factor`, those between
/// by a share of it that grows evenly.
struct YarnScaling {
  double factor, originalContext;
  double betaFast = 32, betaSlow = 1;
  bool truncate = true; ///< the two boundaries are brought to whole dimensions
};
std::vector<double> yarnRopeFactors(int64_t rotaryDim, double theta, const YarnScaling &rule);

/// YaRN's factor of cos and sin: 0.1 * weight * ln(factor) + 1, for a factor above 1.
double yarnMagnitude(double factor, double weight = 1);

/// LongRoPE's: sqrt(1 + ln(factor) / ln(originalContext)), for a factor above 1.
double longRopeMagnitude(double factor, double originalContext);

} // namespace kernelforge
