#include "kernelforge/measure/Accuracy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

using namespace kernelforge;

namespace {

const std::vector<float> reference{1, -2, 3, 0.5f, -100, 7};
constexpr float infinity = std::numeric_limits<float>::infinity();

TEST(Accuracy, TellsDistances) {
  std::vector<float> out = reference;
  out[4] = -99;
  Accuracy accuracy = compareValues(out, reference, 1e-4);
  EXPECT_DOUBLE_EQ(accuracy.maxAbs, 1);
  EXPECT_DOUBLE_EQ(accuracy.maxRel, 0.01);
  EXPECT_DOUBLE_EQ(accuracy.maxReference, 100);
  EXPECT_EQ(accuracy.worst, 4);
  EXPECT_NEAR(accuracy.l2Rel, 1 / std::sqrt(10063.25), 1e-9);
  EXPECT_GT(accuracy.cosineDiff, 0);
  EXPECT_FALSE(accuracy.pass);
  EXPECT_TRUE(compareValues(out, reference, 0.011).pass);
  EXPECT_TRUE(compareValues(reference, reference, 0).pass);
}

TEST(Accuracy, RefusesWhatOnlyLooksRight) {
  std::vector<float> zeros(reference.size()), constant(reference.size(), 1), shifted;
  for (size_t i = 0; i < reference.size(); ++i)
    shifted.push_back(reference[(i + 1) % reference.size()]);
  for (const std::vector<float> &wrong : {zeros, constant, shifted})
    EXPECT_FALSE(compareValues(wrong, reference, 1e-4).pass);
  // A reference of zeros asks for zeros.
  EXPECT_TRUE(compareValues(zeros, zeros, 1e-4).pass);
  EXPECT_FALSE(compareValues(constant, zeros, 1e-4).pass);
}

TEST(Accuracy, CountsWhatIsNoNumber) {
  std::vector<float> out = reference;
  out[2] = std::nanf("");
  Accuracy accuracy = compareValues(out, reference, 1);
  EXPECT_EQ(accuracy.nan, 1);
  EXPECT_EQ(accuracy.worst, 2);
  EXPECT_FALSE(accuracy.pass);
  out[2] = infinity;
  EXPECT_FALSE(compareValues(out, reference, 1).pass);
  // Where the reference is no number either, that is right; the other infinity is not.
  EXPECT_TRUE(compareValues(out, out, 0).pass);
  std::vector<float> opposite = out;
  opposite[2] = -infinity;
  EXPECT_FALSE(compareValues(opposite, out, 1).pass);
}

TEST(Accuracy, SeesWhatWasNeverWritten) {
  std::vector<float> out(reference.size()), also;
  poison(out);
  for (float value : out)
    EXPECT_TRUE(std::isnan(value));
  for (size_t i = 1; i < out.size(); ++i)
    out[i] = reference[i];
  Accuracy accuracy = compareValues(out, reference, 1e-4);
  EXPECT_EQ(accuracy.poisonedLeft, 1);
  EXPECT_FALSE(accuracy.pass);
  // Even where the reference is NaN, a place that was not written is not right.
  std::vector<float> nan{std::nanf("")}, left(1);
  poison(left);
  EXPECT_FALSE(compareValues(left, nan, 1).pass);
  EXPECT_TRUE(compareValues(nan, nan, 1).pass);
}

} // namespace
