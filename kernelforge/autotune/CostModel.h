// What few trials teach about the other schedules of a kernel: the prediction's error, learned by
// ridge regression on the knobs, with how sure that is.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace kernelforge {

/// What the trials of other kernels say about a schedule: see OtherTrials.
struct OtherSaid {
  std::vector<float> shared; ///< covariances with them, solved by their factor
  double logTime = 0;        ///< expected because of their times,
  double logPredicted = 0;   ///< and what of that their predictions make
};

/// A schedule as the model sees it.
struct ModelPoint {
  std::vector<double> logs;  ///< logarithms of the knobs' values, scaled to [-1, 1]
  std::vector<double> steps; ///< positions of the knobs' values among those that are tried
  std::vector<double> pairs; ///< exponentials of the products of two knobs, in the model's units
  std::vector<double> inversePairs;
  double logPredicted = 0;
  size_t kernel = 0; ///< which kernel it is a schedule of; each has an offset of its own
  std::vector<OtherSaid> others = {}; ///< one a scale of OtherTrials; none where there are none

  /// Fills `pairs` from the logarithms of the knobs' values, base 2.
  void setPowers(std::span<const double> powers);
};

/// A measured one.
struct Observation {
  ModelPoint point;
  double logTime = 0;
  double noise = 1; ///< variance, in units of that of an ordinary trial
};

/// Trials of other kernels. They do not change during a search, so their part of the solution is
/// computed once, for each scale that a model may assume (CostModel::Prior): a model of a kernel's
/// own trials is conditioned on them and costs hardly more than without them.
class OtherTrials {
public:
  OtherTrials() = default; ///< none
  OtherTrials(std::span<const Observation> observations, std::span<const double> scales);

  bool empty() const { return points.empty(); }
  size_t size() const { return points.size(); }

  /// ModelPoint::others of a point of the kernel that is searched.
  std::vector<OtherSaid> about(const ModelPoint &point) const;

private:
  friend class CostModel;
  struct Solution {
    double scale;
    std::vector<double> factor; ///< Cholesky factor of the covariances, column by column
    std::vector<double> logTimes, logPredicted; ///< solved by it
    double logDeterminant = 0;
  };
  size_t place(double scale) const;

  std::vector<ModelPoint> points;
  std::vector<Solution> solutions; ///< one a scale
};

/// Ridge regression of log(time) on the logarithms of the knobs, their squares and pairwise
/// products, log(predicted time) and two local terms that follow cliffs: in all knobs and in the
/// products of two. It is solved in its kernel form, where the unknowns are one an observation, not
/// one a feature. Trials of other kernels count as if they were observations, too.
class CostModel {
public:
  /// What is assumed before anything is measured.
  struct Prior {
    double trust = 1; ///< part of log(predicted) that is expected in log(time)
    double scale = 1; ///< how much the knobs may correct it
  };

  /// `observations` are of the kernel that is searched. `others`, which must outlive the model,
  /// has the prior's scale and filled ModelPoint::others of all points.
  CostModel(std::span<const Observation> observations, Prior prior, const OtherTrials &others);

  struct Guess {
    double logTime;
    double deviation; ///< standard deviation of logTime, without the noise of a measurement
  };
  Guess guess(const ModelPoint &point) const;

  /// Logarithm of how probable the observations are under the prior, up to a constant that all
  /// models of the same observations share.
  double evidence() const { return logEvidence; }

private:
  double covariance(const ModelPoint &a, const ModelPoint &b) const;
  double expected(const ModelPoint &point) const;

  Prior prior;
  bool conditioned; ///< on trials of other kernels
  size_t place = 0; ///< of the scale among theirs
  std::vector<ModelPoint> points;
  std::vector<double> factor;  ///< Cholesky factor of the covariances, column by column
  std::vector<double> weights; ///< one a point
  double noise = 0; ///< estimated variance of a measurement; all others are relative to it
  double logEvidence = 0;
};

} // namespace kernelforge
