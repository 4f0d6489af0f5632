#include "kernelforge/measure/Statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace kernelforge;

/// Up to here counts of arrangements are exact in a double (C(50, 25) and 2^50 are below 2^53).
static constexpr size_t mostExact = 50;

namespace {

struct Ranks {
  std::vector<double> rank; ///< from 1, ties share the mean of theirs; in the order of the values
  double tieSum = 0;        ///< sum of t^3 - t over groups of t equal values
};

} // namespace

static Ranks ranksOf(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::ranges::sort(order, {}, [&](size_t i) { return values[i]; });
  Ranks ranks;
  ranks.rank.resize(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin + 1;
    while (end < order.size() && values[order[end]] == values[order[begin]])
      ++end;
    for (size_t i = begin; i < end; ++i)
      ranks.rank[order[i]] = static_cast<double>(begin + end + 1) / 2;
    const auto tied = static_cast<double>(end - begin);
    ranks.tieSum += tied * tied * tied - tied;
    begin = end;
  }
  return ranks;
}

/// Twice the probability of the smaller tail of a symmetric distribution over 0, 1, ... that is
/// given by counts; a statistic at the middle has p 1.
static double twoSided(std::span<const double> counts, double statistic) {
  const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  const double smaller = std::min(statistic, static_cast<double>(counts.size() - 1) - statistic);
  double tail = 0;
  for (size_t i = 0; static_cast<double>(i) <= smaller; ++i)
    tail += counts[i];
  return std::min(1.0, 2 * tail / total);
}

/// Two-sided p of the normal distribution for a distance from the mean, corrected for continuity.
static double normalTwoSided(double distance, double variance) {
  if (variance <= 0)
    return 1;
  const double z = (std::abs(distance) - 0.5) / std::sqrt(variance);
  return std::min(1.0, std::erfc(z / std::sqrt(2.0)));
}

TestResult kernelforge::wilcoxonSignedRank(std::span<const double> differences) {
  std::vector<double> kept, sizes;
  for (double difference : differences)
    if (difference != 0) {
      kept.push_back(difference);
      sizes.push_back(std::abs(difference));
    }
  const size_t n = kept.size();
  const Ranks ranks = ranksOf(sizes);
  double positive = 0, all = 0;
  for (size_t i = 0; i < n; ++i) {
    all += ranks.rank[i];
    if (kept[i] > 0)
      positive += ranks.rank[i];
  }
  TestResult result;
  result.statistic = std::min(positive, all - positive);
  if (n == 0)
    return result;
  if (n <= mostExact && ranks.tieSum == 0) {
    // Ways to choose some of the ranks 1 to n with each sum.
    std::vector<double> counts(n * (n + 1) / 2 + 1);
    counts[0] = 1;
    for (size_t rank = 1; rank <= n; ++rank)
      for (size_t sum = counts.size() - 1; sum >= rank; --sum)
        counts[sum] += counts[sum - rank];
    result.exact = true;
    result.p = twoSided(counts, positive);
    return result;
  }
  const auto count = static_cast<double>(n);
  const double variance = count * (count + 1) * (2 * count + 1) / 24 - ranks.tieSum / 48;
  result.p = normalTwoSided(positive - all / 2, variance);
  return result;
}

/// Arrangements of m and n values with each U from 0 to m * n: the coefficients of the Gaussian
/// binomial, the product of (1 - q^(n + i)) / (1 - q^i) over i from 1 to m.
static std::vector<double> countsOfU(size_t m, size_t n) {
  std::vector<double> counts(m * n + 1);
  counts[0] = 1;
  for (size_t i = 1; i <= m; ++i) {
    for (size_t u = counts.size(); u-- > n + i;)
      counts[u] -= counts[u - n - i];
    for (size_t u = i; u < counts.size(); ++u)
      counts[u] += counts[u - i];
  }
  return counts;
}

TestResult kernelforge::mannWhitneyU(std::span<const double> a, std::span<const double> b) {
  std::vector<double> all(a.begin(), a.end());
  all.insert(all.end(), b.begin(), b.end());
  const Ranks ranks = ranksOf(all);
  const auto m = static_cast<double>(a.size()), n = static_cast<double>(b.size());
  TestResult result;
  result.statistic = std::accumulate(ranks.rank.begin(),
                                     ranks.rank.begin() + static_cast<ptrdiff_t>(a.size()), 0.0) -
                     m * (m + 1) / 2;
  if (a.empty() || b.empty())
    return result;
  if (all.size() <= mostExact && ranks.tieSum == 0) {
    result.exact = true;
    result.p = twoSided(countsOfU(a.size(), b.size()), result.statistic);
    return result;
  }
  const double both = m + n;
  const double variance = m * n / 12 * (both + 1 - ranks.tieSum / (both * (both - 1)));
  result.p = normalTwoSided(result.statistic - m * n / 2, variance);
  return result;
}

size_t kernelforge::minimumSamples(double alpha, size_t tests) {
  double arrangements = 1; // C(2n, n)
  for (size_t n = 1;; ++n) {
    arrangements *= 2.0 * (2.0 * static_cast<double>(n) - 1) / static_cast<double>(n);
    if (static_cast<double>(tests) * 2 / arrangements <= alpha || n == 1000)
      return n;
  }
}

std::vector<double> kernelforge::holmAdjusted(std::span<const double> p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::ranges::sort(order, {}, [&](size_t i) { return p[i]; });
  std::vector<double> adjusted(p.size());
  double before = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    before = std::max(before, std::min(1.0, static_cast<double>(p.size() - i) * p[order[i]]));
    adjusted[order[i]] = before;
  }
  return adjusted;
}
