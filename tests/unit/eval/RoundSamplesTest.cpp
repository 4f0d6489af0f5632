#include "kernelforge/eval/RoundSamples.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::ElementsAre;

namespace {

TEST(RoundSamples, UndisturbedIsWhatOneInTenSurpasses) {
  EXPECT_EQ(undisturbed({}), 0);
  EXPECT_EQ(undisturbed({7}), 7);
  std::vector<double> values;
  for (int i = 20; i >= 0; --i)
    values.push_back(i);
  EXPECT_EQ(undisturbed(values), 18);
}

TEST(RoundSamples, StatesDifferByArithmeticOrByExchange) {
  const MachineState usual{200, 30};
  EXPECT_TRUE(isUsual({181, 16}, usual));
  EXPECT_TRUE(isUsual({219, 38}, usual));
  EXPECT_FALSE(isUsual({179, 30}, usual)); // a core shared with someone
  EXPECT_FALSE(isUsual({200, 14}, usual)); // cores of two sockets
  EXPECT_FALSE(isUsual({221, 30}, usual));
  EXPECT_TRUE(isUsual({200, 30, 10, 10}, {200, 30, 100, 100})); // shared, as ever
  EXPECT_EQ(bestOf({200, 5}, usual).exchange, 30);
  EXPECT_EQ(bestOf({210, 5}, usual).fma, 210);
  // One thread exchanges nothing.
  EXPECT_TRUE(isUsual({200, 0}, {200, 0}));
  EXPECT_TRUE(isUsual({200, 0}, usual));
}

TEST(RoundSamples, AloneIsToWriteAsFastAsEverAndToStay) {
  auto alone = [](double writing, double best, int64_t preemptions = 0) {
    return isAlone({1, 1, writing, writing, preemptions}, best);
  };
  EXPECT_TRUE(alone(118, 118));
  EXPECT_TRUE(alone(117, 118));
  EXPECT_FALSE(alone(115, 118)); // shared now and then
  EXPECT_TRUE(alone(118, 118, 1));
  EXPECT_FALSE(alone(118, 118, 2));
  EXPECT_TRUE(alone(130, 118)); // faster than ever
  EXPECT_FALSE(alone(0, 118));
  EXPECT_FALSE(alone(118, 0)); // nothing is known
  EXPECT_FALSE(alone(0, 0));
  EXPECT_EQ(bestOf({1, 1, 90, 80}, {1, 1, 70, 85}).writeFirst, 90);
  EXPECT_EQ(bestOf({1, 1, 90, 80}, {1, 1, 70, 85}).writeSlowest, 85);
  EXPECT_EQ(aloneWriting({}), 0);
  EXPECT_EQ(aloneWriting({80, 90}), 80);
  EXPECT_EQ(aloneWriting({80, 118, 130, 117, 90}), 117); // one or two are odd
}

TEST(RoundSamples, CountInTheUsualStateAndNearTheirAnchor) {
  const MachineState usual{200, 30}, other{200, 5};
  // The anchor's median is of those in the usual state: 100, not 160.
  const std::vector<RoundSample> samples = {{0, 1, 100, usual}, {1, 1, 160, other},
                                            {2, 1, 95, usual},  {3, 1, 160, other},
                                            {4, 1, 112, usual}, {5, 1, 160, other}};
  EXPECT_THAT(countingSamples(samples, usual), ElementsAre(true, false, true, false, false, false));
  EXPECT_TRUE(countingSamples({}, usual).empty());
}

} // namespace
