#include "kernelforge/measure/Statistics.h"

#include "kernelforge/measure/Timing.h"
#include "kernelforge/support/CounterRandom.h"
#include "kernelforge/support/Json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

using namespace kernelforge;

namespace {

/// What scipy says, made by scripts/goldens/scipy_statistics.py.
Json golden() {
  auto document = readJsonFile(KERNELFORGE_TEST_DATA "/golden/data/statistics.json", "golden");
  EXPECT_TRUE(document) << document.error().line();
  return document ? document->value() : Json::object();
}

void expectLike(const TestResult &result, const Json &expected) {
  EXPECT_EQ(result.exact, expected["exact"].get<bool>());
  EXPECT_DOUBLE_EQ(result.statistic, expected["statistic"].get<double>());
  const double p = expected["p"];
  EXPECT_NEAR(result.p, p, 1e-11 * p + 1e-300);
}

/// Normally distributed numbers of one seed.
class Normal {
public:
  explicit Normal(uint64_t seed) : seed(seed) {}
  double next() {
    const double radius = std::sqrt(-2 * std::log(1 - randomUniform(seed, counter)));
    const double angle = 2 * std::numbers::pi * randomUniform(seed, counter + 1);
    counter += 2;
    return radius * std::cos(angle);
  }
  /// Times as they are measured: a floor, noise above it, now and then an interruption.
  std::vector<double> times(size_t count, double scale, double noise) {
    std::vector<double> values;
    for (size_t i = 0; i < count; ++i) {
      const bool interrupted = randomUniform(seed ^ 1, counter) < 0.05;
      values.push_back(scale * std::exp(noise * next()) * (interrupted ? 1.3 : 1));
    }
    return values;
  }

private:
  uint64_t seed, counter = 0;
};

TEST(Statistics, WilcoxonIsScipys) {
  const Json cases = golden()["wilcoxon"];
  ASSERT_GE(cases.size(), 10u);
  for (const Json &one : cases) {
    SCOPED_TRACE(one.dump());
    expectLike(wilcoxonSignedRank(one["differences"].get<std::vector<double>>()), one);
  }
}

TEST(Statistics, MannWhitneyIsScipys) {
  const Json cases = golden()["mann_whitney"];
  ASSERT_GE(cases.size(), 10u);
  for (const Json &one : cases) {
    SCOPED_TRACE(one.dump());
    expectLike(
        mannWhitneyU(one["a"].get<std::vector<double>>(), one["b"].get<std::vector<double>>()),
        one);
  }
}

TEST(Statistics, TestsOfNothing) {
  const std::vector<double> none, zeros{0, 0, 0}, same{3, 3, 3};
  EXPECT_EQ(wilcoxonSignedRank(none).p, 1);
  EXPECT_EQ(wilcoxonSignedRank(zeros).p, 1);
  EXPECT_EQ(mannWhitneyU(none, same).p, 1);
  EXPECT_EQ(mannWhitneyU(same, none).p, 1);
  EXPECT_EQ(mannWhitneyU(same, same).p, 1);
}

TEST(Statistics, HolmAsInHisPaper) {
  // Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, then 0.04 is raised to what came before.
  const std::vector<double> p{0.01, 0.04, 0.03, 0.005};
  const std::vector<double> adjusted = holmAdjusted(p);
  ASSERT_EQ(adjusted.size(), 4u);
  EXPECT_DOUBLE_EQ(adjusted[0], 0.03);
  EXPECT_DOUBLE_EQ(adjusted[1], 0.06);
  EXPECT_DOUBLE_EQ(adjusted[2], 0.06);
  EXPECT_DOUBLE_EQ(adjusted[3], 0.02);
  EXPECT_EQ(holmAdjusted(std::vector<double>{0.6, 0.9}), (std::vector<double>{1, 1}));
  EXPECT_TRUE(holmAdjusted({}).empty());
}

TEST(Statistics, FalsePositivesUnderTheNull) {
  Normal normal(5);
  int unpaired = 0, paired = 0, family = 0;
  constexpr int runs = 600, rows = 10;
  for (int run = 0; run < runs; ++run) {
    std::vector<double> p;
    for (int row = 0; row < rows; ++row) {
      const std::vector<double> a = normal.times(11, 100, 0.02), b = normal.times(11, 100, 0.02);
      p.push_back(mannWhitneyU(a, b).p);
      std::vector<double> differences;
      for (size_t i = 0; i < a.size(); ++i)
        differences.push_back(std::log(b[i] / a[i]));
      unpaired += p.back() < 0.05;
      paired += wilcoxonSignedRank(differences).p < 0.05;
    }
    const std::vector<double> adjusted = holmAdjusted(p);
    family += std::ranges::any_of(adjusted, [](double value) { return value < 0.05; });
  }
  // 0.05 of 6,000 is 300, its deviation 17; of 600 families 30, deviation 5.3.
  EXPECT_LT(unpaired, 360);
  EXPECT_GT(unpaired, 220);
  EXPECT_LT(paired, 360);
  EXPECT_GT(paired, 220);
  EXPECT_LT(family, 50);
}

TEST(Statistics, LeastSamples) {
  EXPECT_EQ(minimumSamples(0.05, 1), 4u);  // 2 / C(8, 4) = 0.029; of 3: 2 / 20 = 0.1
  EXPECT_EQ(minimumSamples(0.05, 20), 6u); // 40 / C(12, 6) = 0.043; of 5: 40 / 252 = 0.16
  const size_t n = minimumSamples(0.05, 60);
  std::vector<double> a, b;
  for (size_t i = 0; i < n; ++i) {
    a.push_back(static_cast<double>(i));
    b.push_back(static_cast<double>(100 + i));
  }
  EXPECT_LE(60 * mannWhitneyU(a, b).p, 0.05);
  a.pop_back();
  b.pop_back();
  EXPECT_GT(60 * mannWhitneyU(a, b).p, 0.05);
}

/// Share of simulated comparisons whose interval holds the true value.
template <typename Simulate> double coverage(double truth, Simulate simulate) {
  constexpr int runs = 400;
  int held = 0;
  for (uint64_t run = 0; run < runs; ++run) {
    const Interval interval = simulate(run);
    held += interval.low <= truth && truth <= interval.high;
  }
  return static_cast<double>(held) / runs;
}

TEST(Statistics, IntervalsHoldTheTruth) {
  BootstrapOptions quick;
  quick.resamples = 600;
  Normal normal(6);
  // Deviation of a share of 400 at 0.95: 0.011.
  const double paired = coverage(1.05, [&](uint64_t run) {
    quick.seed = run;
    std::vector<double> ratios;
    for (int i = 0; i < 25; ++i)
      ratios.push_back(1.05 * std::exp(0.03 * normal.next()));
    return medianInterval(ratios, quick);
  });
  EXPECT_GT(paired, 0.91);
  EXPECT_LT(paired, 0.99);
  const double unpaired = coverage(1.1, [&](uint64_t run) {
    quick.seed = run;
    return medianRatioInterval(normal.times(11, 100, 0.02), normal.times(11, 110, 0.02), quick);
  });
  EXPECT_GT(unpaired, 0.91);
  // Few groups that do not differ: conservative. That differ as much as their values: few of them.
  auto grouped = [&](size_t count, double between) {
    return coverage(1, [&](uint64_t run) {
      quick.seed = run;
      std::vector<std::vector<double>> groups(count);
      for (std::vector<double> &group : groups) {
        const double shift = between * normal.next();
        for (int i = 0; i < 7; ++i)
          group.push_back(std::exp(shift + 0.01 * normal.next()));
      }
      return groupedMedianInterval(groups, quick);
    });
  };
  EXPECT_GT(grouped(4, 0), 0.95);
  EXPECT_GT(grouped(4, 0.01), 0.83);
  for (double between : {0.0, 0.01}) {
    EXPECT_GT(grouped(12, between), 0.90) << between;
    EXPECT_LT(grouped(12, between), 0.985) << between;
  }
}

TEST(Statistics, ManyGroupsThatDoNotDifferCostLittle) {
  // About as wide as where values are drawn one by one; drawn at both levels, sqrt(2) times.
  Normal normal(9);
  double grouped = 0, single = 0;
  for (int run = 0; run < 40; ++run) {
    std::vector<std::vector<double>> groups;
    std::vector<double> all;
    for (int i = 0; i < 12; ++i) {
      groups.push_back(normal.times(9, 1, 0.02));
      all.insert(all.end(), groups.back().begin(), groups.back().end());
    }
    const Interval a = groupedMedianInterval(groups), b = medianInterval(all);
    grouped += a.high - a.low;
    single += b.high - b.low;
  }
  EXPECT_GT(grouped / single, 0.85);
  EXPECT_LT(grouped / single, 1.15);
}

TEST(Statistics, FewGroupsDrawnWholeAreScaled) {
  // Groups of one value are drawn as values are. A spread of n draws is too small by the root of
  // (n - 1) / n, which is made up for where groups are drawn whole.
  const std::vector<double> values{0.90, 0.94, 0.97, 0.99, 1.02, 1.04, 1.07, 1.12};
  std::vector<std::vector<double>> groups;
  for (double value : values)
    groups.push_back({value});
  const Interval drawn = medianInterval(values), grouped = groupedMedianInterval(groups);
  const double middle = median(values), scale = std::sqrt(8.0 / 7);
  EXPECT_NEAR(std::log(grouped.low / middle), scale * std::log(drawn.low / middle), 1e-12);
  EXPECT_NEAR(std::log(grouped.high / middle), scale * std::log(drawn.high / middle), 1e-12);
  EXPECT_LT(grouped.low, drawn.low);
  EXPECT_GT(grouped.high, drawn.high);
}

TEST(Statistics, IntervalIsRepeatable) {
  Normal normal(7);
  const std::vector<double> values = normal.times(25, 1, 0.05);
  BootstrapOptions other;
  other.seed = 1;
  const Interval first = medianInterval(values), second = medianInterval(values);
  EXPECT_EQ(first.low, second.low);
  EXPECT_EQ(first.high, second.high);
  EXPECT_LT(first.low, median(values));
  EXPECT_GT(first.high, median(values));
  const Interval third = medianInterval(values, other);
  EXPECT_TRUE(third.low != first.low || third.high != first.high);
  const Interval one = medianInterval(std::vector<double>{2});
  EXPECT_EQ(one.low, 2);
  EXPECT_EQ(one.high, 2);
}

TEST(Statistics, WidenedAddsInQuadrature) {
  const Interval wide = widened({std::exp(-0.03), std::exp(0.03)}, 1, 0.04, 1);
  EXPECT_NEAR(std::log(wide.low), -0.05, 1e-12);
  EXPECT_NEAR(std::log(wide.high), 0.05, 1e-12);
  const Interval same = widened({0.9, 1.2}, 1.05, 0);
  EXPECT_NEAR(same.low, 0.9, 1e-12);
  EXPECT_NEAR(same.high, 1.2, 1e-12);
}

TEST(Statistics, SamplesNeeded) {
  const double t = std::log(1.07);
  // Twice as wide as fits: four times as many.
  const Interval wide{std::exp(-2 * t), std::exp(2 * t)};
  EXPECT_NEAR(static_cast<double>(*samplesNeeded(wide, 1, 11, 0.07)), 44, 1);
  // Near the limit: no more than a hundred times what an interval of its width would need.
  const Interval near{1.07 * std::exp(-t), 1.07 * std::exp(t)};
  EXPECT_NEAR(static_cast<double>(*samplesNeeded(near, 1.07, 10, 0.07)), 1000, 1);
  // Beyond a limit only the side towards it has to fit.
  const Interval beyond{std::exp(t), 10};
  EXPECT_NEAR(static_cast<double>(*samplesNeeded(beyond, std::exp(2 * t), 10, 0.07)), 10, 1);
  const Interval faster{0.1, std::exp(-t)};
  EXPECT_NEAR(static_cast<double>(*samplesNeeded(faster, std::exp(-2 * t), 10, 0.07)), 10, 1);
  // What more samples do not take away.
  EXPECT_FALSE(samplesNeeded(wide, 1, 11, 0.07, t));
  EXPECT_GT(*samplesNeeded(wide, 1, 11, 0.07, t / 4), 44u);
}

} // namespace
