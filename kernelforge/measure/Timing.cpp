#include "kernelforge/measure/Timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace kernelforge {

using Clock = std::chrono::steady_clock;

double median(std::vector<double> values) {
  if (values.empty())
    return 0;
  const size_t middle = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + middle, values.end());
  if (values.size() % 2 == 1)
    return values[middle];
  return (values[middle] + *std::max_element(values.begin(), values.begin() + middle)) / 2;
}

double medianAbsoluteDeviation(std::span<const double> values) {
  const double center = median({values.begin(), values.end()});
  std::vector<double> distances;
  for (double value : values)
    distances.push_back(std::abs(value - center));
  return median(std::move(distances));
}

/// Nanoseconds of `calls` calls.
static Expected<double> timeBatch(const std::function<Status()> &call, int64_t calls) {
  const auto start = Clock::now();
  for (int64_t i = 0; i < calls; ++i)
    KF_CHECK(call());
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

Expected<Timing> measureTime(const std::function<Status()> &call, const TimingOptions &options) {
  for (int i = 0; i < options.warmup; ++i)
    KF_CHECK(call());

  // Double the batch until it is long enough to be scaled, so that one slow call (an interrupt, a
  // page fault) does not settle it.
  Timing timing;
  const double wanted = options.batchSeconds * 1e9;
  for (;;) {
    KF_TRY(double took, timeBatch(call, timing.batch));
    if (took >= wanted / 4 || timing.batch >= int64_t(1) << 30) {
      const double scale = wanted / std::max(took, 1.0);
      timing.batch = std::max<int64_t>(1, std::llround(static_cast<double>(timing.batch) * scale));
      break;
    }
    timing.batch *= 2;
  }

  const auto start = Clock::now();
  while (timing.samples.size() < maxSamples &&
         (timing.samples.size() < static_cast<size_t>(std::max(options.rounds, 1)) ||
          std::chrono::duration<double>(Clock::now() - start).count() < options.minSeconds)) {
    if (options.cancel && *options.cancel)
      return makeError(ErrorKind::Interrupted, "interrupted", "timing", "stopped by user");
    KF_TRY(double took, timeBatch(call, timing.batch));
    timing.samples.push_back(took / static_cast<double>(timing.batch));
  }
  timing.median = median(timing.samples);
  timing.mad = medianAbsoluteDeviation(timing.samples);
  return timing;
}

} // namespace kernelforge
