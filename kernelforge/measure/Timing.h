// How long a call takes, told honestly: batches long enough for the clock, warmed up, every sample
// kept, the median and the median absolute deviation as summary.
#pragma once

#include "kernelforge/support/Error.h"

#include <atomic>
#include <functional>
#include <span>
#include <vector>

namespace kernelforge {

struct TimingOptions {
  double minSeconds = 0.5;                   ///< measure at least this long
  int rounds = 10;                           ///< and take at least this many samples
  int warmup = 3;                            ///< calls before the first sample
  double batchSeconds = 0.01;                ///< a sample is as many calls as take about this long
  const std::atomic<bool> *cancel = nullptr; ///< where true: Interrupted
};

struct Timing {
  std::vector<double> samples; ///< nanoseconds of one call, one per batch
  int64_t batch = 1;           ///< calls of a sample
  double median = 0;           ///< nanoseconds
  double mad = 0;              ///< median absolute deviation, nanoseconds
};

/// The most samples that are kept.
inline constexpr size_t maxSamples = 10'000;

/// Calls `call` until the options are met. Its first error ends the measurement.
Expected<Timing> measureTime(const std::function<Status()> &call,
                             const TimingOptions &options = {});

/// Middle value, or the mean of the two; 0 where there are none.
double median(std::vector<double> values);

/// Median of the distances from the median.
double medianAbsoluteDeviation(std::span<const double> values);

} // namespace kernelforge
