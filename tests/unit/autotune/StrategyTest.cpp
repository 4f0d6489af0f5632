#include "Landscapes.h"
#include "kernelforge/autotune/History.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <set>

using namespace kernelforge;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Ninety legal schedules of 4 * 6 * 5; the time of some is infinite: they fail.
ScheduleSpace smallSpace() {
  ScheduleSpace space;
  space.knobs = {
      {"a", {0, 1, 2, 4}, ""}, {"b", {1, 2, 4, 8, 16, 32}, ""}, {"c", {-1, 0, 1, 3, 5}, ""}};
  space.check = [](const KnobValues &v) -> Status {
    if (v.at("a") == 4)
      return unusable("schedule is not legal", "a", "4 is too much");
    return {};
  };
  space.predict = [](const KnobValues &v) { return 1e-3 * static_cast<double>(40 - v.at("b")); };
  space.analytic = {{"a", 1}, {"b", 16}, {"c", 3}};
  return space;
}

double smallTime(const KnobValues &v) {
  if (v.at("b") == 32 || v.at("a") == 2)
    return infinity;
  return 1e-3 * (1 + std::abs(static_cast<double>(v.at("b") - 8)) + static_cast<double>(v.at("c")));
}

std::vector<Trial> measured(std::vector<KnobValues> proposals) {
  std::vector<Trial> trials;
  for (KnobValues &knobs : proposals) {
    const double seconds = smallTime(knobs);
    trials.push_back({std::move(knobs), seconds});
  }
  return trials;
}

/// The schedules that a search of `rounds` rounds proposes after it was told `before`.
std::vector<std::string> search(const std::string &name, const StrategyOptions &options,
                                size_t rounds, size_t batch, std::vector<Trial> *trials,
                                const ScheduleSpace &space = smallSpace()) {
  auto strategy = defaultStrategies().make(name, space, options);
  EXPECT_TRUE(strategy);
  (*strategy)->tell(*trials);
  std::vector<std::string> texts;
  for (size_t round = 0; round < rounds; ++round) {
    const std::vector<Trial> told = measured((*strategy)->ask(batch));
    EXPECT_LE(told.size(), batch);
    for (const Trial &trial : told)
      texts.push_back(knobsText(trial.knobs));
    (*strategy)->tell(told);
    trials->insert(trials->end(), told.begin(), told.end());
  }
  return texts;
}

class EachStrategy : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Strategies, EachStrategy, testing::ValuesIn(defaultStrategies().names()),
                         [](const auto &info) { return info.param; });

TEST_P(EachStrategy, ProposesEveryLegalScheduleOnce) {
  for (size_t batch : {1, 7, 200}) {
    std::vector<Trial> trials;
    const auto texts =
        search(GetParam(), {.seed = batch, .priors = {}}, 120 / batch + 2, batch, &trials);
    const std::set<std::string> unique(texts.begin(), texts.end());
    EXPECT_EQ(texts.size(), 90u);
    EXPECT_EQ(unique.size(), 90u);
    for (const Trial &trial : trials)
      EXPECT_TRUE(smallSpace().check(trial.knobs));
    EXPECT_EQ(texts.front(), knobsText(smallSpace().analytic));
  }
}

TEST_P(EachStrategy, DoesNotProposeWhatItWasTold) {
  std::vector<Trial> trials = measured(smallSpace().legal(80));
  // A user's pin from outside the space, and a schedule that was measured twice.
  trials.push_back({{{"a", 3}, {"b", 7}, {"c", 9}}, 1e-3});
  trials.push_back(trials.front());
  const auto texts = search(GetParam(), {.seed = 5, .priors = {}}, 4, 8, &trials);
  EXPECT_EQ(texts.size(), 10u);
}

TEST_P(EachStrategy, IsAFunctionOfSeedAndHistory) {
  std::vector<Trial> one, two, other;
  const auto first = search(GetParam(), {.seed = 3, .priors = {}}, 20, 2, &one);
  EXPECT_EQ(first, search(GetParam(), {.seed = 3, .priors = {}}, 20, 2, &two));
  if (GetParam() != "grid") {
    EXPECT_NE(first, search(GetParam(), {.seed = 4, .priors = {}}, 20, 2, &other));
  }
}

TEST_P(EachStrategy, ResumesWhereItWas) {
  for (size_t batch : {1, 3}) {
    std::vector<Trial> whole, parts;
    const auto texts = search(GetParam(), {.seed = 9, .priors = {}}, 16, batch, &whole);
    auto resumed = search(GetParam(), {.seed = 9, .priors = {}}, 6, batch, &parts);
    for (const std::string &text : search(GetParam(), {.seed = 9, .priors = {}}, 10, batch, &parts))
      resumed.push_back(text);
    EXPECT_EQ(texts, resumed);
  }
}

TEST_P(EachStrategy, StandsFailuresOnly) {
  auto strategy = defaultStrategies().make(GetParam(), smallSpace(), {});
  ASSERT_TRUE(strategy);
  size_t count = 0;
  for (int round = 0; round < 50; ++round)
    for (KnobValues &knobs : (*strategy)->ask(2)) {
      const Trial trial{std::move(knobs), infinity};
      (*strategy)->tell({&trial, 1});
      ++count;
    }
  EXPECT_EQ(count, 90u);
}

TEST_P(EachStrategy, StandsDegenerateSpaces) {
  ScheduleSpace none, one, illegal = smallSpace();
  one.knobs = {{"a", {4}, ""}};
  illegal.check = [](const KnobValues &) -> Status { return unusable("no", "no", "no"); };
  const auto count = [&](const ScheduleSpace &space) {
    return (*defaultStrategies().make(GetParam(), space, {}))->ask(10).size();
  };
  EXPECT_EQ(count(none), 1u);
  EXPECT_EQ(count(one), 1u);
  EXPECT_EQ(count(illegal), 0u);
}

TEST_P(EachStrategy, SearchesLargeSpacesWithFewLegalSchedules) {
  ScheduleSpace space;
  for (std::string name : {"a", "b", "c", "d", "e", "f", "g"})
    space.knobs.push_back({name, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, ""});
  space.check = [](const KnobValues &v) -> Status {
    int64_t sum = 0;
    for (const auto &[name, value] : v)
      sum += value;
    if (sum % 1000 > 15)
      return unusable("no", "sum", "too large");
    return {};
  };
  space.predict = [](const KnobValues &v) { return static_cast<double>(v.at("a")); };
  auto strategy = defaultStrategies().make(GetParam(), space, {});
  ASSERT_TRUE(strategy);
  std::set<std::string> unique;
  for (int round = 0; round < 5; ++round)
    for (KnobValues &knobs : (*strategy)->ask(4)) {
      EXPECT_TRUE(space.check(knobs));
      unique.insert(knobsText(knobs));
      const Trial trial{knobs, 1 + static_cast<double>(knobs.at("b"))};
      (*strategy)->tell({&trial, 1});
    }
  EXPECT_EQ(unique.size(), 20u);
}

TEST(Strategy, GridCoversWithAShortBudget) {
  std::vector<Trial> trials;
  search("grid", {.startFromAnalytic = false, .priors = {}}, 12, 1, &trials);
  for (const Knob &knob : smallSpace().knobs) {
    std::set<int64_t> values;
    for (const Trial &trial : trials)
      values.insert(trial.knobs.at(knob.name));
    EXPECT_GE(values.size(), 3u) << knob.name;
  }
}

TEST(Strategy, RandomOrderVisitsAllOnce) {
  for (uint64_t size : {1, 2, 3, 5, 64, 1000}) {
    const RandomOrder order(size, 7);
    std::set<uint64_t> visited;
    for (uint64_t i = 0; i < size; ++i)
      visited.insert(order[i]);
    EXPECT_EQ(visited.size(), size);
    EXPECT_LT(*visited.rbegin(), size);
  }
  EXPECT_LT(RandomOrder(UINT64_MAX, 1)[12345], UINT64_MAX);
}

TEST(Strategy, RandomIsUniform) {
  // First proposals of many seeds: each legal schedule about as often.
  std::map<std::string, int> counts;
  for (uint64_t seed = 0; seed < 9000; ++seed) {
    auto strategy =
        makeRandomStrategy(smallSpace(), {.seed = seed, .startFromAnalytic = false, .priors = {}});
    ++counts[knobsText(strategy->ask(1).at(0))];
  }
  EXPECT_EQ(counts.size(), 90u);
  double chiSquared = 0;
  for (const auto &[text, count] : counts)
    chiSquared += (count - 100.0) * (count - 100.0) / 100;
  EXPECT_LT(chiSquared, 150); // 89 degrees of freedom: less than 1 in 10,000
}

/// A batch of the model's must not crowd in one place.
TEST(Strategy, ModelSpreadsABatch) {
  const ReplaySpace recorded = landscapes::separable(1);
  auto strategy = makeModelStrategy(recorded.space, {.startFromAnalytic = false, .priors = {}});
  for (int round = 0; round < 12; ++round)
    for (KnobValues &knobs : strategy->ask(1)) {
      const Trial trial{knobs, recorded.seconds.at(knobsText(knobs))};
      strategy->tell({&trial, 1});
    }
  double distance = 0;
  const std::vector<KnobValues> batch = strategy->ask(6);
  for (const KnobValues &one : batch)
    for (const KnobValues &other : batch)
      for (const Knob &knob : recorded.space.knobs)
        distance += std::abs(static_cast<double>(valueIndex(knob, one)) -
                             static_cast<double>(valueIndex(knob, other)));
  EXPECT_GT(distance / 30, 1.5); // mean steps between two of the six
}

/// Trials of a similar kernel spare trials of this one.
TEST(Strategy, LearnsFromOtherKernels) {
  const ReplaySpace recorded = landscapes::separable(4);
  std::vector<PriorTrial> prior;
  for (const KnobValues &knobs : recorded.space.legal(32))
    prior.push_back(
        {knobs, 7 * recorded.space.predict(knobs), 9 * recorded.seconds.at(knobsText(knobs))});
  for (const char *name : {"model", "evolutionary"}) {
    double first[2] = {0, 0};
    for (uint64_t seed = 0; seed < 10; ++seed)
      for (bool with : {false, true}) {
        StrategyOptions options{.seed = seed, .startFromAnalytic = false, .priors = {}};
        if (with)
          options.priors = {prior};
        auto strategy = *defaultStrategies().make(name, recorded.space, options);
        double best = infinity;
        for (int i = 0; i < 5; ++i)
          for (KnobValues &knobs : strategy->ask(1)) {
            const Trial trial{knobs, recorded.seconds.at(knobsText(knobs))};
            best = std::min(best, trial.seconds);
            strategy->tell({&trial, 1});
          }
        first[with] += best;
      }
    EXPECT_LT(first[1], first[0]) << name;
  }
}

/// Of more trials than the model takes, each of the nearest kernels gives as many, evenly spread:
/// a search that is told only those proposes the same.
TEST(Strategy, TakesOfEachOfTheNearestKernelsAsMany) {
  const ReplaySpace recorded = landscapes::separable(4);
  std::vector<PriorTrial> all;
  for (const KnobValues &knobs : recorded.space.legal(480))
    all.push_back({knobs, recorded.space.predict(knobs), recorded.seconds.at(knobsText(knobs))});
  ASSERT_EQ(all.size(), 480u);
  // 96 trials of five kernels; the least of each is taken, so that times stay relative to it.
  std::vector<std::vector<PriorTrial>> many, few;
  for (size_t kernel = 0; kernel < 5; ++kernel) {
    many.emplace_back(all.begin() + 96 * kernel, all.begin() + 96 * (kernel + 1));
    std::swap(many.back()[0], *std::ranges::min_element(many.back(), {}, &PriorTrial::seconds));
    if (kernel == 4)
      continue; // four have enough
    few.emplace_back();
    for (size_t i = 0; i < 96; i += 2)
      few.back().push_back(many.back()[i]);
  }
  for (const char *name : {"model", "evolutionary"}) {
    std::vector<KnobValues> proposals[2];
    for (bool isFew : {false, true}) {
      auto strategy = *defaultStrategies().make(
          name, recorded.space,
          {.seed = 2, .startFromAnalytic = false, .priors = isFew ? few : many});
      for (int i = 0; i < 12; ++i)
        for (KnobValues &knobs : strategy->ask(1)) {
          const Trial trial{knobs, recorded.seconds.at(knobsText(knobs))};
          strategy->tell({&trial, 1});
          proposals[isFew].push_back(std::move(knobs));
        }
    }
    EXPECT_EQ(proposals[0], proposals[1]) << name;
  }
}

TEST(Strategy, PriorsOfOtherKnobsDoNotMatter) {
  const std::vector<std::vector<PriorTrial>> priors{
      {{{{"a", 1}}, 1, 1}, {{{"x", 1}, {"y", 2}}, 0, infinity}}, {}};
  for (const std::string &name : defaultStrategies().names()) {
    std::vector<Trial> with, without;
    EXPECT_EQ(search(name, {.seed = 2, .priors = priors}, 10, 1, &with),
              search(name, {.seed = 2, .priors = {}}, 10, 1, &without));
  }
}

/// The whole of what another strategy needs.
class FirstStrategy : public HistoryStrategy {
public:
  using HistoryStrategy::HistoryStrategy;

protected:
  std::optional<KnobValues> next() override {
    for (KnobValues &knobs : space.legal(1000))
      if (!seen(knobs))
        return knobs;
    return std::nullopt;
  }
};

TEST(Strategy, RegistersAnother) {
  StrategyRegistry registry = defaultStrategies();
  registry.add("first", [](const ScheduleSpace &space, const StrategyOptions &options) {
    return std::make_unique<FirstStrategy>(space, options);
  });
  EXPECT_THAT(registry.names(),
              testing::ElementsAre("evolutionary", "first", "grid", "model", "random"));
  auto strategy = registry.make("first", smallSpace(), {});
  ASSERT_TRUE(strategy);
  EXPECT_EQ((*strategy)->ask(100).size(), 90u);
  EXPECT_TRUE(replay(landscapes::flat(1), registry, "first", 0));
}

TEST(Strategy, UnknownNameListsTheKnown) {
  auto strategy = defaultStrategies().make("annealing", smallSpace(), {});
  ASSERT_FALSE(strategy);
  EXPECT_EQ(strategy.error().kind, ErrorKind::Unusable);
  EXPECT_EQ(strategy.error().line(), "no such search strategy (annealing): there is none of that "
                                     "name; known: evolutionary, grid, model, random");
  strategy = defaultStrategies().make("modle", smallSpace(), {});
  ASSERT_FALSE(strategy);
  EXPECT_TRUE(strategy.error().hint.starts_with("did you mean 'model'?")) << strategy.error().hint;
}

} // namespace
