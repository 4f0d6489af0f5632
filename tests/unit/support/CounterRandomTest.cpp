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

// The known answers that come with the authors' own code.
TEST(CounterRandom, PhiloxGivesItsAuthorsNumbers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox4x32({ones, ones, ones, ones}, UINT64_MAX),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

} // namespace
