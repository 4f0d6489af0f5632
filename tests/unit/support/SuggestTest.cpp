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

TEST(Suggest, Hints) {
  const std::vector<std::string> two = {"grid", "random"};
  EXPECT_EQ(namesHint("gird", two), "did you mean 'grid'? known: grid, random");
  EXPECT_EQ(namesHint("zzzz", two), "known: grid, random");
}

} // namespace
