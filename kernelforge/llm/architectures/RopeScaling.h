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

} // namespace kernelforge
