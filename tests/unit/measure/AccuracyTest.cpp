#include "kernelforge/measure/AccuracyJson.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

using namespace kernelforge;
using testing::HasSubstr;

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

TEST(Accuracy, SaysWhatIsNoNumberInBoth) {
  EXPECT_EQ(notNumbersText(compareValues(reference, reference, 0)), "0 not numbers");
  std::vector<float> right = reference, out = reference;
  out[0] = std::nanf("");
  EXPECT_EQ(notNumbersText(compareValues(out, right, 0)),
            "1 not numbers, 1 of them on one side only");
  out[1] = right[1] = std::nanf("");
  out[2] = right[2] = infinity;
  Accuracy accuracy = compareValues(out, right, 0);
  EXPECT_EQ(accuracy.nan, 1);
  EXPECT_EQ(accuracy.nanInBoth, 2);
  EXPECT_EQ(notNumbersText(accuracy), "3 not numbers, 1 of them on one side only");
  EXPECT_EQ(accuracyJson(accuracy)["nan_in_both"], 2);
  out[0] = right[0];
  accuracy = compareValues(out, right, 0);
  EXPECT_TRUE(accuracy.pass);
  EXPECT_EQ(notNumbersText(accuracy), "2 not numbers, as in the reference");
  // What was not written is not right by chance, and counts once.
  poison(std::span(out).subspan(1, 1));
  accuracy = compareValues(out, right, 0);
  EXPECT_EQ(accuracy.poisonedLeft, 1);
  EXPECT_EQ(notNumbersText(accuracy), "2 not numbers, 1 of them on one side only");
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

//===----------------------------------------------------------------------===//
// The rule with a yardstick
//===----------------------------------------------------------------------===//

/// Values of both signs in [-2, 2), the largest of them near 2, and what is off by `error` in
/// turns.
std::vector<float> values(size_t count) {
  std::vector<float> made(count);
  for (size_t i = 0; i < count; ++i)
    made[i] = static_cast<float>(std::sin(1.7 * double(i) + 0.3)) * 1.9f;
  return made;
}
std::vector<float> off(std::vector<float> of, float error) {
  for (size_t i = 0; i < of.size(); ++i)
    of[i] += i % 2 ? error : -error;
  return of;
}

TEST(Judge, AllowsAMultipleOfTheYardstickAndOfARounding) {
  const std::vector<float> right = values(100), plain = off(right, 1e-4f);
  const Accuracy same = judge(plain, right, plain);
  EXPECT_TRUE(same.pass) << same.why;
  EXPECT_TRUE(same.judged);
  EXPECT_NEAR(same.yardstickMaxAbs, 1e-4, 1e-6);
  EXPECT_NEAR(same.tolerance * same.maxReference, 4e-4 + 0x1p-22, 1e-6);
  // One element four times as far, all of them three times.
  std::vector<float> out = plain;
  out[0] = right[0] + 3.98e-4f;
  EXPECT_TRUE(judge(out, right, plain).pass);
  out[0] = right[0] + 4.02e-4f;
  EXPECT_FALSE(judge(out, right, plain).pass);
  EXPECT_TRUE(judge(off(right, 2.98e-4f), right, plain).pass);
  EXPECT_FALSE(judge(off(right, 3.02e-4f), right, plain).pass);
  // With a plain implementation that makes no error, two units in the last place are left.
  out = right;
  out[0] = std::nextafter(out[0], 9.0f);
  EXPECT_TRUE(judge(out, right, right).pass);
  out[0] = right[0] + 1e-6f;
  EXPECT_FALSE(judge(out, right, right).pass);
}

TEST(Judge, SaysWhereAndWhatIsWrong) {
  const std::vector<float> right = values(100), plain = off(right, 1e-6f);
  std::vector<float> out = plain;
  out[37] += 0.5f;
  Accuracy accuracy = judge(out, right, plain, {ElementType::F32, 10});
  EXPECT_EQ(accuracy.worst, 37);
  EXPECT_THAT(accuracy.why, HasSubstr("row 3, column 7 (element 37) is "));
  EXPECT_THAT(accuracy.why, HasSubstr("off by 0.5"));
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < 100; ++i)
    indices.push_back(1000 + 2 * i);
  accuracy = judge(out, right, plain, {ElementType::F32, 0, indices, 5000});
  EXPECT_EQ(accuracy.worst, 1074);
  EXPECT_EQ(accuracy.outputs, 5000);
  EXPECT_EQ(accuracy.checked, 100);
  EXPECT_THAT(accuracy.why, HasSubstr("element 1074 is "));
  out[37] = std::nanf("");
  EXPECT_THAT(judge(out, right, plain).why, HasSubstr("element 37 is nan"));
  poison(out);
  EXPECT_THAT(judge(out, right, plain).why, HasSubstr("100 of 100 elements were not written"));
}

TEST(Judge, SeesManySmallErrorsThatTheLargestHides) {
  // One element of the plain implementation is far off: the largest error says little.
  const std::vector<float> right = values(1000);
  std::vector<float> plain = off(right, 1e-6f);
  plain[500] += 1e-3f;
  const std::vector<float> out = off(right, 5e-4f);
  const Accuracy accuracy = judge(out, right, plain);
  EXPECT_LT(accuracy.maxAbs, accuracy.tolerance * accuracy.maxReference);
  EXPECT_FALSE(accuracy.pass);
  EXPECT_THAT(accuracy.why, HasSubstr("many elements are a little off"));
}

TEST(Judge, RefusesWhatOnlyLooksRight) {
  // With so bad a yardstick, zeros would be within what rule 2 and 3 allow.
  const std::vector<float> right = values(100), plain = off(right, 1.9f);
  EXPECT_THAT(judge(std::vector<float>(100), right, plain).why, HasSubstr("all elements are 0"));
  EXPECT_THAT(judge(std::vector<float>(100, 0.1f), right, plain).why,
              HasSubstr("all elements are 0.1"));
  EXPECT_THAT(judge(off(right, 0.5f), right, plain).why,
              HasSubstr("right cannot be told from wrong"));
  // A reference of zeros, or of one value, asks for the same.
  const std::vector<float> zeros(100), ones(100, 1.0f);
  EXPECT_TRUE(judge(zeros, zeros, zeros).pass);
  EXPECT_TRUE(judge(ones, ones, ones).pass);
  EXPECT_FALSE(judge(ones, zeros, zeros).pass);
  EXPECT_FALSE(judge(off(zeros, 1e-9f), zeros, zeros).pass);
}

TEST(Judge, FewElementsAreNoYardstick) {
  // Of one element the plain implementation may be right by chance; another order of sums is not.
  const std::vector<float> right{1.5f}, out{1.5f + 0x1p-18f}, wrong{1.5f * 1.0001f};
  EXPECT_TRUE(judge(out, right, right).pass);
  EXPECT_FALSE(judge(wrong, right, right).pass);
}

TEST(Judge, NarrowResultsMayRoundTheOtherWay) {
  for (ElementType type : {ElementType::F16, ElementType::BF16}) {
    const float unit = type == ElementType::F16 ? 0x1p-10f : 0x1p-7f; // of values in [1, 2)
    std::vector<float> right = values(200);
    for (float &x : right)
      x = std::round(x / unit) * unit;
    std::vector<float> out = right;
    out[2] += unit;
    const Accuracy near = judge(out, right, right, {type});
    EXPECT_TRUE(near.pass) << near.why;
    EXPECT_FALSE(judge(out, right, right).pass);
    out[2] += unit;
    EXPECT_FALSE(judge(out, right, right, {type}).pass);
    EXPECT_FALSE(judge(off(right, 0.9f * unit), right, right, {type}).pass)
        << "not all of them round the other way";
  }
}

TEST(Judge, AQuantMayRoundTheOtherWay) {
  // A cache of q8_0: steps of a 127th of a block's largest.
  std::vector<float> right = values(200);
  right[7] = 127;
  for (float &x : right)
    x = std::round(x);
  std::vector<float> out = right;
  out[7] -= 1;
  const Accuracy near = judge(out, right, right, {ElementType::Q8_0});
  EXPECT_TRUE(near.pass) << near.why;
  EXPECT_FALSE(judge(out, right, right, {ElementType::F16}).pass);
  out[7] -= 1;
  EXPECT_FALSE(judge(out, right, right, {ElementType::Q8_0}).pass);
}

TEST(Bits, FirstDifference) {
  const std::vector<float> a{1, 0.0f, std::nanf("")};
  EXPECT_FALSE(firstDifferentBit(a, a));
  const std::vector<float> b{1, -0.0f, 2};
  EXPECT_EQ(firstDifferentBit(a, b), 1);
}

TEST(AccuracyJson, HasEveryFieldOfARow) {
  const std::vector<float> right = values(100), plain = off(right, 1e-6f);
  std::vector<float> out = plain;
  out[5] = 7;
  const Json json = accuracyJson(judge(out, right, plain));
  for (const char *field :
       {"reference", "checked", "outputs", "max_abs", "max_rel", "l2_rel", "cosine_diff", "nan",
        "poisoned_left", "yardstick_max_abs", "tolerance", "pass", "why"})
    EXPECT_TRUE(json.contains(field)) << field;
  EXPECT_EQ(json["reference"], "f64");
  EXPECT_EQ(json["checked"], 100);
  EXPECT_FALSE(json["pass"]);
  // Of a fixed tolerance there is no yardstick; infinities are no JSON.
  const Json fixed = accuracyJson(compareValues(right, std::vector<float>(100), 1), "expected");
  EXPECT_FALSE(fixed.contains("yardstick_max_abs"));
  EXPECT_TRUE(fixed["l2_rel"].is_number());
  EXPECT_EQ(fixed.dump().find("null"), std::string::npos);
}

} // namespace
