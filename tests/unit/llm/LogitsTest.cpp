#include "kernelforge/llm/Logits.h"

#include "kernelforge/llm/Perplexity.h"

#include <cmath>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <limits>
#include <vector>

using namespace kernelforge;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();

TEST(Logits, WhatIsNoDistribution) {
  using Row = std::vector<float>;
  EXPECT_EQ(describeDefect(Row{}), "there are none");
  EXPECT_EQ(describeDefect(Row{1, 2, -NAN}), "nan at id 2");
  EXPECT_EQ(describeDefect(Row{1, inf, NAN}), "inf at id 1");
  EXPECT_EQ(describeDefect(Row{-inf, -inf}), "all are -inf");
  EXPECT_EQ(describeDefect(Row{-inf, -3}), ""); // a token that never comes
  constexpr float most = std::numeric_limits<float>::max();
  EXPECT_EQ(describeDefect(Row{most, -most}), "");
  // Wherever it is in a row that is worked on in vectors.
  for (size_t i = 0; i < 67; ++i) {
    Row row(67, 1.0f);
    row[i] = NAN;
    EXPECT_EQ(describeDefect(row), fmt::format("nan at id {}", i));
    row.assign(67, -inf);
    row[i] = -most;
    EXPECT_EQ(describeDefect(row), "") << i;
  }
}

TEST(Logits, TheErrorSaysWhere) {
  EXPECT_TRUE(checkLogits(std::vector<float>{0, 1}, 1));
  const Status one = checkLogits(std::vector<float>{0, NAN}, 1);
  ASSERT_FALSE(one);
  EXPECT_EQ(one.error().kind, ErrorKind::Failed);
  EXPECT_EQ(one.error().line(), "logits are no numbers (after 1 token): nan at id 1");
  EXPECT_EQ(checkLogits(std::vector<float>{inf}, 12).error().line(),
            "logits are no numbers (after 12 tokens): inf at id 0");
}

TEST(Perplexity, OfATokenThatNeverComesIsInfinite) {
  LikelihoodSum likelihood;
  likelihood.add(std::vector<float>{std::log(0.25f), std::log(0.75f), -inf}, 1);
  EXPECT_NEAR(likelihood.perplexity(), 1 / 0.75, 1e-6);
  likelihood.add(std::vector<float>{0, 0, -inf}, 2);
  EXPECT_EQ(likelihood.perplexity(), std::numeric_limits<double>::infinity());
}

TEST(Perplexity, WhatTheBaseNeverSaysAddsNothing) {
  Divergence divergence;
  const std::vector<float> base = {std::log(0.5f), std::log(0.5f), -inf};
  divergence.add(base, std::vector<float>{std::log(0.25f), std::log(0.5f), std::log(0.25f)});
  EXPECT_NEAR(divergence.mean(), 0.5 * std::log(2), 1e-6);
  divergence.add(base, base);
  EXPECT_NEAR(divergence.mean(), 0.25 * std::log(2), 1e-6);
  divergence.add(base, std::vector<float>{0, -inf, 0}); // the model never says what the base does
  EXPECT_EQ(divergence.mean(), std::numeric_limits<double>::infinity());
}

TEST(Perplexity, QuantilesOfADivergenceLieBetweenTokens) {
  Divergence divergence;
  EXPECT_EQ(divergence.quantile(0.99), 0);
  divergence.values = {4, 1, 3, 2};
  EXPECT_EQ(divergence.quantile(0), 1);
  EXPECT_EQ(divergence.quantile(0.5), 2.5);
  EXPECT_NEAR(divergence.quantile(0.99), 3.97, 1e-12);
  EXPECT_EQ(divergence.quantile(1), 4);
  EXPECT_EQ(divergence.values.front(), 4); // they stay in their order
}

} // namespace
