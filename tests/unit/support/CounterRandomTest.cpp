#include "kernelforge/support/CounterRandom.h"

#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

TEST(CounterRandom, NumbersAreInRangeAndSpread) {
  double sum = 0;
  int low = 0;
  for (uint64_t i = 0; i < 10000; ++i) {
    double u = randomUniform(7, i);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
    low += u < 0.1;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.02);
  EXPECT_NEAR(low, 1000, 120);
}

TEST(CounterRandom, SeedAndCounterAreNotExchangeable) {
  EXPECT_NE(randomBits(0, 1), randomBits(1, 0));
  EXPECT_NE(randomBits(0, 0), randomBits(0, 1));
  EXPECT_EQ(randomBits(3, 4), randomBits(3, 4));
}

} // namespace
