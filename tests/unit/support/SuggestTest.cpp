#include "kernelforge/support/Suggest.h"

#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

const std::vector<std::string> names = {"grid",  "random",          "evolutionary",
                                        "model", "--prompt-tokens", "--max-tokens"};

TEST(Suggest, FindsSlips) {
  EXPECT_EQ(nearestName("modle", names), "model") << "two letters swapped";
  EXPECT_EQ(nearestName("gird", names), "grid");
  EXPECT_EQ(nearestName("randm", names), "random") << "one missing";
  EXPECT_EQ(nearestName("griid", names), "grid") << "one too many";
  EXPECT_EQ(nearestName("Model", names), "model");
  EXPECT_EQ(nearestName("--max_tokens", names), "--max-tokens");
  EXPECT_EQ(nearestName("evol", names), "evolutionary") << "its beginning";
}

TEST(Suggest, SaysNothingWhereNothingIsNear) {
  for (const char *text : {"", "x", "mr", "annealing", "--nonsense", "zzzz"})
    EXPECT_EQ(nearestName(text, names), "") << text;
  EXPECT_EQ(nearestName(std::string(1'000'000, 'x'), names), "");
  EXPECT_EQ(didYouMean("annealing", names), "");
}

TEST(Suggest, WholePartsOfNames) {
  const std::vector<std::string> parts = {"vendor:mkl", "q4_0", "q4_1", "q40", "--random-type"};
  EXPECT_EQ(didYouMean("mkl", parts), "did you mean 'vendor:mkl'?");
  EXPECT_EQ(didYouMean("q4", parts), "did you mean 'q4_0' or 'q4_1'?");
  EXPECT_EQ(didYouMean("--type", parts), "did you mean '--random-type'?");
  for (const char *text : {"", "-", "--", "-o", "4", "or", "vendor:mkl"})
    EXPECT_EQ(didYouMean(text, parts).find(" or "), std::string::npos) << text;
  EXPECT_EQ(didYouMean("or", parts), "") << "within a word";
}

TEST(Suggest, Hints) {
  const std::vector<std::string> two = {"grid", "random"};
  EXPECT_EQ(namesHint("gird", two), "did you mean 'grid'? known: grid, random");
  EXPECT_EQ(namesHint("zzzz", two), "known: grid, random");
}

} // namespace
