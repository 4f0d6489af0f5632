#include "kernelforge/autotune/CostModel.h"

#include <algorithm>
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

double CostModel::covariance(const ModelPoint &a, const ModelPoint &b) const {
  double linear = 0, squares = 0, distance = 0;
  for (size_t i = 0; i < a.logs.size(); ++i) {
    const double product = a.logs[i] * b.logs[i];
    linear += product;
    squares += product * product;
    distance += std::abs(a.steps[i] - b.steps[i]);
  }
  // What limits a schedule is often the product of two knobs: a tile, or its bytes.
  double pairs = 0; // e^(-|x - y|) is the smaller of e^x / e^y and e^y / e^x
  for (size_t i = 0; i < a.pairs.size(); ++i)
    pairs += std::min(a.pairs[i] * b.inversePairs[i], b.pairs[i] * a.inversePairs[i]);
  const double pairCount = std::max(1.0, static_cast<double>(a.pairs.size()));
  // linear * linear holds the products of all pairs.
  const double knobs = linearVariance * linear + squareVariance * squares +
                       productVariance * linear * linear + pairVariance * pairs / pairCount +
                       localVariance * std::exp(-distance / localReach);
  return (a.kernel == b.kernel ? offsetVariance : 0) +
         predictedVariance * a.logPredicted * b.logPredicted + prior.scale * knobs;
}

CostModel::CostModel(std::span<const Observation> observations, Prior prior) : prior(prior) {
  const size_t n = observations.size();
  for (const Observation &observation : observations)
    points.push_back(observation.point);
  factor.resize(n * n);
  weights.resize(n);
  double explained = 0, logDeterminant = 0;
  for (size_t i = 0; i < n; ++i) {
    double *row = &factor[i * n];
    for (size_t j = 0; j <= i; ++j) {
      double sum = covariance(points[i], points[j]) + (i == j ? observations[i].noise : 0);
      for (size_t k = 0; k < j; ++k)
        sum -= row[k] * factor[j * n + k];
      // The noise keeps the diagonal positive; the bound guards against rounding.
      row[j] = i == j ? std::sqrt(std::max(sum, 1e-9)) : sum / factor[j * n + j];
    }
    double target = observations[i].logTime - prior.trust * points[i].logPredicted;
    for (size_t k = 0; k < i; ++k)
      target -= row[k] * weights[k];
    weights[i] = target / row[i];
    explained += weights[i] * weights[i];
    logDeterminant += std::log(row[i]);
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t k = i + 1; k < n; ++k)
      weights[i] -= factor[k * n + i] * weights[k];
    weights[i] /= factor[i * n + i];
  }
  const double count = static_cast<double>(n) + noiseGuessCount;
  noise = (explained + noiseGuess * noiseGuessCount) / count;
  logEvidence = -logDeterminant - 0.5 * count * std::log(noise);
}

CostModel::Guess CostModel::guess(const ModelPoint &point) const {
  const size_t n = points.size();
  double mean = prior.trust * point.logPredicted, variance = covariance(point, point);
  std::vector<double> solved(n);
  for (size_t i = 0; i < n; ++i) {
    double sum = covariance(points[i], point);
    mean += sum * weights[i];
    for (size_t k = 0; k < i; ++k)
      sum -= factor[i * n + k] * solved[k];
    solved[i] = sum / factor[i * n + i];
    variance -= solved[i] * solved[i];
  }
  return {mean, std::sqrt(std::max(variance, 0.0) * noise)};
}
