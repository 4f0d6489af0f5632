// Are two sets of times different, by how much, and how sure is that: rank tests, bootstrap
// intervals of a ratio of medians, correction for many rows. Nothing here assumes that times are
// normally distributed; they are not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace kernelforge {

/// A two-sided test.
struct TestResult {
  double statistic = 0; ///< what the test is named after: W, the smaller sum of ranks, or U of `a`
  double p = 1;         ///< probability of a statistic at least as extreme where nothing differs
  bool exact = false;   ///< from the statistic's own distribution, not from the normal one
};

/// Wilcoxon's signed-rank test that paired differences are symmetric about 0. Differences of 0 are
/// dropped, as Wilcoxon did. Exact for up to 50 differences without ties; otherwise the normal
/// approximation with the variance corrected for ties and a continuity correction of 1/2. Without a
/// difference left p is 1.
/// Source: F. Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1 (1945);
/// ties: M. Hollander, D. Wolfe, E. Chicken, Nonparametric Statistical Methods (2014), section 3.1.
TestResult wilcoxonSignedRank(std::span<const double> differences);

/// Mann and Whitney's U test that values of `a` are as often above those of `b` as below. Exact for
/// up to 50 values without ties; otherwise the normal approximation with the variance corrected for
/// ties and a continuity correction of 1/2. p is 1 where a side is empty or all values are equal.
/// Source: H. Mann, D. Whitney, Annals of Mathematical Statistics 18 (1947); ties: Hollander,
/// Wolfe, Chicken (2014), section 4.1.
TestResult mannWhitneyU(std::span<const double> a, std::span<const double> b);

/// Values of each of two sides that `tests` exact U tests under Holm's correction need at least to
/// find anything at `alpha`: the least n with tests * 2 / C(2n, n) <= alpha.
size_t minimumSamples(double alpha, size_t tests);

/// Adjusts p values of one family so that comparing each with alpha keeps the probability of any
/// false one at alpha: the i-th smallest of m is multiplied by m - i, and none is below one before.
/// Source: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal
/// of Statistics 6 (1979).
std::vector<double> holmAdjusted(std::span<const double> p);

struct Interval {
  double low = 0, high = 0;
};

struct BootstrapOptions {
  double confidence = 0.95;
  int resamples = 2000;
  uint64_t seed = 0; ///< the same values, options and seed: the same interval
};

/// Bootstrap interval of a median: that of per-round ratios B/A of paired rounds. Percentile
/// method, not BCa: the acceleration of BCa comes from the jackknife, which is not consistent for
/// medians (B. Efron, R. Tibshirani, An Introduction to the Bootstrap (1993), sections 10.6
/// and 13.3). `values` must not be empty.
Interval medianInterval(std::span<const double> values, const BootstrapOptions &options = {});

/// The same where values come in groups that share what differs from group to group (rounds of one
/// pair of processes share how their memory was placed). From eight groups on, whole groups are
/// drawn with replacement, and half-widths of the logarithm grow by sqrt(g / (g - 1)), by which g
/// groups show too little. Of fewer groups, values are drawn within each drawn group as well: that
/// is up to sqrt(2) too wide where groups do not differ, and makes up for few where they do. Values
/// must be positive; neither `groups` nor one of them may be empty. Source: A. Davison, D. Hinkley,
/// Bootstrap Methods and their Application (1997), section 3.8.
Interval groupedMedianInterval(std::span<const std::vector<double>> groups,
                               const BootstrapOptions &options = {});

/// Bootstrap interval of median(b) / median(a), both sides drawn independently; percentile method
/// as in medianInterval. Values must be positive, neither side empty.
Interval medianRatioInterval(std::span<const double> a, std::span<const double> b,
                             const BootstrapOptions &options = {});

/// The interval of a ratio with a further, independent error of its logarithm: half-widths of
/// log(ratio) are added in quadrature, `normalQuantile` times `deviation` to each side's.
Interval widened(const Interval &interval, double ratio, double deviation,
                 double normalQuantile = 1.96);

/// Samples with which the interval of a ratio would lie wholly on one side of 1 + threshold and of
/// 1 / (1 + threshold), were the ratio what it is now: half-widths of log(ratio) shrink as
/// 1/sqrt(n), but for the part that is `deviation` (see widened). A ratio nearer to a limit than a
/// tenth of log(1 + threshold) counts as that far away, so that the figure stays one to act upon.
/// Nothing where no number of samples would do. `interval` is without the deviation.
std::optional<size_t> samplesNeeded(const Interval &interval, double ratio, size_t samples,
                                    double threshold, double deviation = 0);

} // namespace kernelforge
