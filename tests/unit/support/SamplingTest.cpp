// The arithmetic that devices repeat; what comes of the options is tested with llm/Sampler.
#include "kernelforge/support/Sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

using namespace kernelforge;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float most = std::numeric_limits<float>::max();

TEST(Sampling, KeysOrderLogits) {
  const float ordered[] = {-most, -1e30F, -2, -1, -1e-30F, 0, 1e-30F, 1, 1.5F, 1e30F, most};
  uint32_t before = sampling::leastKey - 1;
  for (float logit : ordered) {
    EXPECT_GT(sampling::keyOf(logit), before) << logit;
    before = sampling::keyOf(logit);
    EXPECT_EQ(sampling::logitOf(before), logit);
  }
  EXPECT_EQ(sampling::keyOf(-inf), 0u);
  EXPECT_EQ(sampling::keyOf(std::nanf("")), 0u);
  EXPECT_EQ(sampling::keyOf(-std::nanf("")), 0u);
  EXPECT_EQ(sampling::keyOf(inf), sampling::keyOf(most));
  EXPECT_EQ(sampling::keyOf(-0.0F), sampling::keyOf(0.0F));
  EXPECT_EQ(sampling::keyOf(-1e-40F), sampling::keyOf(0.0F)); // devices may flush it to 0
}

TEST(Sampling, WeightsAreExponentials) {
  EXPECT_EQ(sampling::weightOf(3, 3, 1), sampling::unitWeight);
  EXPECT_EQ(sampling::weightOf(3, 3, 1e30F), sampling::unitWeight);
  EXPECT_EQ(sampling::weightOf(0, -sampling::cutoff, 1), 0u);
  EXPECT_EQ(sampling::weightOf(most, -most, 1), 0u);
  EXPECT_EQ(sampling::weightOf(1, 0, 1e30F), 0u);
  for (float sharpness : {0.01F, 1.0F, 7.0F})
    for (float distance = 0; distance * sharpness < 11; distance += 0.0371F / sharpness) {
      const double exact = std::ldexp(std::exp(-double(distance) * double(sharpness)), 30);
      EXPECT_NEAR(sampling::weightOf(5, 5 - distance, sharpness), exact, 8e-5 * exact + 1);
    }
}

TEST(Sampling, SharesAreRoundedDown) {
  EXPECT_EQ(sampling::shareOf(uint64_t(5) << 47, 0x80000000), uint64_t(5) << 46);
  EXPECT_EQ(sampling::shareOf(3, 0x80000000), 1u);
  EXPECT_EQ(sampling::shareOf((uint64_t(1) << 48) - 1, 0xffffffff), 0xfffffffeffffu);
}

TEST(Sampling, NothingThatCanBeChosen) {
  TokenSampler sampler;
  for (float sharpness : {0.0F, 1.0F}) {
    SampleSettings settings;
    settings.sharpness = sharpness;
    for (const std::vector<float> &logits :
         {std::vector<float>{}, {std::nanf(""), -inf}, {-inf, -inf, -inf}})
      EXPECT_EQ(sampler.choose(logits, settings, {}, {}), -1);
    EXPECT_EQ(sampler.choose(std::vector<float>{std::nanf(""), -inf, -7}, settings, {}, {}), 2);
  }
}

} // namespace
