// Intervals of medians and of their ratios.
#include "kernelforge/measure/Statistics.h"

#include "kernelforge/measure/Timing.h"
#include "kernelforge/support/CounterRandom.h"

#include <algorithm>
#include <cmath>

using namespace kernelforge;

namespace {

/// Draws, one after the other, of one seed.
class Draws {
public:
  explicit Draws(uint64_t seed) : seed(seed) {}
  size_t below(size_t n) {
    return static_cast<size_t>(randomUniform(seed, counter++) * static_cast<double>(n));
  }

private:
  uint64_t seed, counter = 0;
};

} // namespace

static void resample(std::span<const double> values, Draws &draws, std::vector<double> &into) {
  for (size_t i = 0; i < values.size(); ++i)
    into.push_back(values[draws.below(values.size())]);
}

/// The middle `confidence` of the statistics of all resamples.
template <typename Statistic>
static Interval percentiles(const BootstrapOptions &options, const Statistic &statistic) {
  std::vector<double> found(static_cast<size_t>(std::max(options.resamples, 1)));
  for (double &value : found)
    value = statistic();
  std::ranges::sort(found);
  const double tail = (1 - options.confidence) / 2 * static_cast<double>(found.size());
  const auto cut = std::min(static_cast<size_t>(tail), (found.size() - 1) / 2);
  return {found[cut], found[found.size() - 1 - cut]};
}

Interval kernelforge::medianInterval(std::span<const double> values,
                                     const BootstrapOptions &options) {
  Draws draws(options.seed);
  std::vector<double> scratch;
  return percentiles(options, [&] {
    scratch.clear();
    resample(values, draws, scratch);
    return median(scratch);
  });
}

/// Groups from which on they are drawn whole.
static constexpr size_t manyGroups = 8;

Interval kernelforge::groupedMedianInterval(std::span<const std::vector<double>> groups,
                                            const BootstrapOptions &options) {
  Draws draws(options.seed);
  std::vector<double> scratch;
  const bool whole = groups.size() >= manyGroups;
  Interval interval = percentiles(options, [&] {
    scratch.clear();
    for (size_t i = 0; i < groups.size(); ++i) {
      const std::vector<double> &group = groups[draws.below(groups.size())];
      if (whole)
        scratch.insert(scratch.end(), group.begin(), group.end());
      else
        resample(group, draws, scratch);
    }
    return median(scratch);
  });
  if (!whole)
    return interval;
  scratch.clear();
  for (const std::vector<double> &group : groups)
    scratch.insert(scratch.end(), group.begin(), group.end());
  const double middle = median(scratch), count = static_cast<double>(groups.size());
  const double scale = std::sqrt(count / (count - 1));
  return {middle * std::pow(interval.low / middle, scale),
          middle * std::pow(interval.high / middle, scale)};
}

Interval kernelforge::medianRatioInterval(std::span<const double> a, std::span<const double> b,
                                          const BootstrapOptions &options) {
  Draws draws(options.seed);
  std::vector<double> scratch;
  auto drawnMedian = [&](std::span<const double> values) {
    scratch.clear();
    resample(values, draws, scratch);
    return median(scratch);
  };
  return percentiles(options, [&] {
    const double below = drawnMedian(a);
    return drawnMedian(b) / below;
  });
}

Interval kernelforge::widened(const Interval &interval, double ratio, double deviation,
                              double normalQuantile) {
  const double more = normalQuantile * deviation;
  return {ratio * std::exp(-std::hypot(std::log(ratio / interval.low), more)),
          ratio * std::exp(std::hypot(std::log(interval.high / ratio), more))};
}

/// Samples until a half-width of `width` at `samples` fits into `gap` beside `deviation`.
static std::optional<double> samplesToFit(double width, double gap, double samples,
                                          double deviation) {
  const double more = 1.96 * deviation;
  if (gap <= more)
    return std::nullopt;
  const double allowed = std::sqrt(gap * gap - more * more);
  return samples * (width / allowed) * (width / allowed);
}

std::optional<size_t> kernelforge::samplesNeeded(const Interval &interval, double ratio,
                                                 size_t samples, double threshold,
                                                 double deviation) {
  const double limit = std::log1p(threshold), at = std::log(ratio);
  const double down = std::log(ratio / interval.low), up = std::log(interval.high / ratio);
  const auto n = static_cast<double>(samples);
  auto gapTo = [&](double edge) { return std::max(std::abs(at - edge), limit / 10); };
  double needed = 0;
  auto fit = [&](double width, double edge) {
    const std::optional<double> some = samplesToFit(width, gapTo(edge), n, deviation);
    needed = some ? std::max(needed, *some) : HUGE_VAL;
  };
  if (at > limit) {
    fit(down, limit);
  } else if (at < -limit) {
    fit(up, -limit);
  } else {
    fit(up, limit);
    fit(down, -limit);
  }
  if (!std::isfinite(needed))
    return std::nullopt;
  return std::max<size_t>(1, static_cast<size_t>(std::ceil(std::min(needed, 1e9))));
}
