#include "kernelforge/autotune/CostModel.h"

#include <algorithm>
#include <array>
#include <cmath>

using namespace kernelforge;

// Prior variances, in units of a measurement's. One set for all kernels, chosen on made-up spaces
// that differ in shape (tests/unit/autotune). The offset of a kernel is free; the prediction's
// share may differ from what is expected; the shape over the whole space is kept mild, because the
// corners of the space would tempt most otherwise; most is left to the local term.
static constexpr double offsetVariance = 1000;
static constexpr double predictedVariance = 50;
static constexpr double linearVariance = 1;
static constexpr double squareVariance = 0.5;
static constexpr double productVariance = 0.2;
static constexpr double localVariance = 100;
static constexpr double localReach = 3; // steps of knobs after which it knows little
static constexpr double pairVariance = 80;
static constexpr double pairReach = 0.6; // powers of two

// Of what knobs do, the part that is expected to be the same in other kernels: which tile is best
// depends on the sizes, too. With 1, trials of other kernels made searches of the recorded spaces
// longer (docs/tuning.md).
static constexpr double sharedPart = 0.5;

// The noise before anything is measured, 5 %, and how many trials that counts for.
static constexpr double noiseGuess = 0.003;
static constexpr double noiseGuessCount = 4;

void ModelPoint::setPowers(std::span<const double> powers) {
  for (size_t i = 1; i < powers.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      pairs.push_back(std::exp((powers[i] + powers[j]) / pairReach));
      inversePairs.push_back(1 / pairs.back());
    }
}

namespace {

/// Of term(0) .. term(count - 1), as the sum of several sums: a single one is added up step by
/// step.
template <size_t lanes, typename Term> double sumOf(size_t count, Term term) {
  std::array<decltype(term(0)), lanes> sums{};
  size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    for (size_t lane = 0; lane < lanes; ++lane)
      sums[lane] += term(i + lane);
  double sum = 0;
  for (; i < count; ++i)
    sum += term(i);
  for (auto part : sums)
    sum += part;
  return sum;
}

/// A covariance is rest + scale * knobs.
struct Covariance {
  double rest, knobs;
};

Covariance covarianceOf(const ModelPoint &a, const ModelPoint &b) {
  double linear = 0, squares = 0, distance = 0;
  for (size_t i = 0; i < a.logs.size(); ++i) {
    const double product = a.logs[i] * b.logs[i];
    linear += product;
    squares += product * product;
    distance += std::abs(a.steps[i] - b.steps[i]);
  }
  // What limits a schedule is often the product of two knobs: a tile, or its bytes.
  // e^(-|x - y|) is the smaller of e^x / e^y and e^y / e^x.
  const double pairs = sumOf<4>(a.pairs.size(), [&](size_t i) {
    return std::min(a.pairs[i] * b.inversePairs[i], b.pairs[i] * a.inversePairs[i]);
  });
  const double pairCount = std::max(1.0, static_cast<double>(a.pairs.size()));
  // linear * linear holds the products of all pairs.
  const double knobs = linearVariance * linear + squareVariance * squares +
                       productVariance * linear * linear + pairVariance * pairs / pairCount +
                       localVariance * std::exp(-distance / localReach);
  const double rest = (a.kernel == b.kernel ? offsetVariance : 0) +
                      predictedVariance * a.logPredicted * b.logPredicted;
  return {rest, a.kernel == b.kernel ? knobs : sharedPart * knobs};
}

double product(const std::vector<float> &a, const std::vector<float> &b) {
  return sumOf<16>(a.size(), [&](size_t i) { return a[i] * b[i]; });
}

/// Solves L x = right in place, L a triangle of columns.
void solveLower(std::span<const double> columns, std::span<double> right) {
  const size_t n = right.size();
  for (size_t k = 0; k < n; ++k) {
    const double *column = &columns[k * n];
    const double value = right[k] /= column[k];
    for (size_t i = k + 1; i < n; ++i)
      right[i] -= value * column[i];
  }
}

/// Turns the lower triangle of a symmetric matrix, by columns, into its Cholesky factor.
void factorise(std::span<double> columns, size_t n) {
  for (size_t k = 0; k < n; ++k) {
    double *column = &columns[k * n];
    // The noise keeps the diagonal positive; the bound guards against rounding.
    column[k] = std::sqrt(std::max(column[k], 1e-9));
    for (size_t i = k + 1; i < n; ++i)
      column[i] /= column[k];
    for (size_t j = k + 1; j < n; ++j)
      for (size_t i = j; i < n; ++i)
        columns[j * n + i] -= column[j] * column[i];
  }
}

} // namespace

OtherTrials::OtherTrials(std::span<const Observation> observations,
                         std::span<const double> scales) {
  const size_t n = observations.size();
  std::vector<double> logTimes, logPredicted;
  for (const Observation &observation : observations) {
    points.push_back(observation.point);
    logTimes.push_back(observation.logTime);
    logPredicted.push_back(observation.point.logPredicted);
  }
  for (double scale : scales)
    solutions.push_back({scale, std::vector<double>(n * n), logTimes, logPredicted});
  for (size_t j = 0; j < n; ++j)
    for (size_t i = j; i < n; ++i) {
      const Covariance both = covarianceOf(points[i], points[j]);
      const double noise = i == j ? observations[i].noise : 0;
      for (Solution &solution : solutions)
        solution.factor[j * n + i] = both.rest + solution.scale * both.knobs + noise;
    }
  for (Solution &solution : solutions) {
    factorise(solution.factor, n);
    solveLower(solution.factor, solution.logTimes);
    solveLower(solution.factor, solution.logPredicted);
    for (size_t i = 0; i < n; ++i)
      solution.logDeterminant += std::log(solution.factor[i * n + i]);
  }
}

std::vector<OtherSaid> OtherTrials::about(const ModelPoint &point) const {
  const size_t n = points.size();
  std::vector<OtherSaid> said;
  if (n == 0)
    return said;
  std::vector<Covariance> both;
  for (const ModelPoint &other : points)
    both.push_back(covarianceOf(other, point));
  std::vector<double> solved(n);
  for (const Solution &solution : solutions) {
    for (size_t i = 0; i < n; ++i)
      solved[i] = both[i].rest + solution.scale * both[i].knobs;
    solveLower(solution.factor, solved);
    OtherSaid &one = said.emplace_back();
    one.shared.assign(solved.begin(), solved.end());
    for (size_t i = 0; i < n; ++i) {
      one.logTime += solved[i] * solution.logTimes[i];
      one.logPredicted += solved[i] * solution.logPredicted[i];
    }
  }
  return said;
}

size_t OtherTrials::place(double scale) const {
  const auto found = std::ranges::find(solutions, scale, &Solution::scale);
  return static_cast<size_t>(found - solutions.begin());
}

double CostModel::covariance(const ModelPoint &a, const ModelPoint &b) const {
  const Covariance both = covarianceOf(a, b);
  const double covariance = both.rest + prior.scale * both.knobs;
  return conditioned ? covariance - product(a.others[place].shared, b.others[place].shared)
                     : covariance;
}

/// What is expected without a trial of this kernel.
double CostModel::expected(const ModelPoint &point) const {
  const double predicted = prior.trust * point.logPredicted;
  if (!conditioned)
    return predicted;
  const OtherSaid &said = point.others[place];
  return predicted + said.logTime - prior.trust * said.logPredicted;
}

CostModel::CostModel(std::span<const Observation> observations, Prior prior,
                     const OtherTrials &others)
    : prior(prior), conditioned(!others.empty()) {
  const size_t n = observations.size();
  for (const Observation &observation : observations)
    points.push_back(observation.point);
  factor.resize(n * n);
  weights.resize(n);
  double explained = 0, logDeterminant = 0;
  if (conditioned) {
    place = others.place(prior.scale);
    const OtherTrials::Solution &solution = others.solutions[place];
    logDeterminant = solution.logDeterminant;
    for (size_t i = 0; i < others.size(); ++i) {
      const double rest = solution.logTimes[i] - prior.trust * solution.logPredicted[i];
      explained += rest * rest;
    }
  }
  for (size_t j = 0; j < n; ++j)
    for (size_t i = j; i < n; ++i)
      factor[j * n + i] = covariance(points[i], points[j]) + (i == j ? observations[i].noise : 0);
  factorise(factor, n);
  for (size_t i = 0; i < n; ++i)
    weights[i] = observations[i].logTime - expected(points[i]);
  solveLower(factor, weights);
  for (size_t i = 0; i < n; ++i) {
    explained += weights[i] * weights[i];
    logDeterminant += std::log(factor[i * n + i]);
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t k = i + 1; k < n; ++k)
      weights[i] -= factor[i * n + k] * weights[k];
    weights[i] /= factor[i * n + i];
  }
  const double count = static_cast<double>(n + others.size()) + noiseGuessCount;
  noise = (explained + noiseGuess * noiseGuessCount) / count;
  logEvidence = -logDeterminant - 0.5 * count * std::log(noise);
}

CostModel::Guess CostModel::guess(const ModelPoint &point) const {
  const size_t n = points.size();
  double mean = expected(point), variance = covariance(point, point);
  std::vector<double> solved(n);
  for (size_t i = 0; i < n; ++i) {
    solved[i] = covariance(points[i], point);
    mean += solved[i] * weights[i];
  }
  solveLower(factor, solved);
  for (double value : solved)
    variance -= value * value;
  return {mean, std::sqrt(std::max(variance, 0.0) * noise)};
}
