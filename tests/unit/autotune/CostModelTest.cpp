// The regression itself, with trials of other kernels.
#include "kernelforge/autotune/CostModel.h"

#include "kernelforge/support/CounterRandom.h"

#include <array>
#include <cmath>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

constexpr std::array<double, 3> scales{1, 0.2, 5};

/// A random schedule of three knobs.
ModelPoint pointOf(uint64_t number, size_t kernel) {
  ModelPoint point;
  std::vector<double> powers;
  for (uint64_t knob = 0; knob < 3; ++knob) {
    const double step = std::floor(5 * randomUniform(number, knob));
    point.logs.push_back(step / 2 - 1);
    point.steps.push_back(step);
    powers.push_back(step + 1);
  }
  point.setPowers(powers);
  point.logPredicted = randomUniform(number, 9) - 0.5 + 2 * static_cast<double>(kernel);
  point.kernel = kernel;
  return point;
}

std::vector<Observation> observationsOf(size_t kernel, size_t count) {
  std::vector<Observation> observations;
  for (size_t i = 0; i < count; ++i) {
    const uint64_t number = 100 * kernel + i;
    observations.push_back(
        {pointOf(number, kernel), 0.3 * randomUniform(number, 10), kernel > 0 ? 4.0 : 1.0});
  }
  return observations;
}

/// Conditioning on the trials of other kernels is solving for all trials at once.
TEST(CostModel, OtherTrialsCountAsObservations) {
  std::vector<Observation> others = observationsOf(1, 20), own = observationsOf(0, 12);
  for (Observation &observation : observationsOf(2, 15))
    others.push_back(std::move(observation));
  const OtherTrials factorised(others, scales);
  for (size_t count : {0, 1, 12}) {
    std::vector<Observation> all = others, few(own.begin(), own.begin() + count);
    all.insert(all.end(), few.begin(), few.end());
    for (Observation &observation : few)
      observation.point.others = factorised.about(observation.point);
    for (double scale : scales)
      for (double trust : {0.0, 1.0}) {
        const CostModel joint(all, {trust, scale}, {}),
            conditioned(few, {trust, scale}, factorised);
        EXPECT_NEAR(conditioned.evidence(), joint.evidence(), 1e-3);
        for (uint64_t number = 50; number < 60; ++number) {
          ModelPoint point = pointOf(number, 0);
          const CostModel::Guess expected = joint.guess(point);
          point.others = factorised.about(point);
          const CostModel::Guess guess = conditioned.guess(point);
          EXPECT_NEAR(guess.logTime, expected.logTime, 1e-3);
          EXPECT_NEAR(guess.deviation, expected.deviation, 1e-3 * expected.deviation);
        }
      }
  }
}

/// What a schedule did in another kernel is expected here, too, but far from as surely as what it
/// did here.
TEST(CostModel, OtherKernelsTeachLessThanThisOne) {
  const auto deviations = [](size_t kernel) { // of schedules that were measured in that kernel
    std::vector<Observation> observations = observationsOf(0, 1);
    for (uint64_t number = 700; number < 760; ++number) {
      ModelPoint point = pointOf(number, 0);
      point.kernel = kernel;
      observations.push_back({std::move(point), 0.3 * randomUniform(number, 10), 0.01});
    }
    const CostModel model(observations, {}, {});
    double sum = 0;
    for (uint64_t number = 700; number < 760; ++number)
      sum += model.guess(pointOf(number, 0)).deviation;
    return sum;
  };
  EXPECT_GT(deviations(1), 10 * deviations(0));
}

} // namespace
