// The strategies on spaces that were measured on a machine, not made up.
#include "kernelforge/autotune/Replay.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

class RecordedSpaces : public testing::TestWithParam<const char *> {};
INSTANTIATE_TEST_SUITE_P(SapphireRapids, RecordedSpaces,
                         testing::Values("square", "wide", "tall", "skinny", "decode", "attention"),
                         [](const auto &info) { return std::string(info.param); });

/// Strategies that learn need at most 30 trials, and at most half of random's where those are more
/// than a few.
TEST_P(RecordedSpaces, LearningBeatsRandom) {
  auto space = readReplaySpace(
      fmt::format("{}/../bench/data/sapphirerapids/{}.json", KERNELFORGE_TEST_DATA, GetParam()));
  ASSERT_TRUE(space) << space.error().line();
  const std::vector<std::string> names{"random", "evolutionary", "model"};
  auto summary = replaySummaries({&*space, 1}, defaultStrategies(), names, 9);
  ASSERT_TRUE(summary) << summary.error().line();
  const size_t random = summary->front()[0].median;
  for (const ReplaySummary &one : summary->front()) {
    SCOPED_TRACE(fmt::format("{} needs {}; random {}", one.strategy, one.median, random));
    RecordProperty(one.strategy, fmt::format("median {}, p90 {}", one.median, one.p90));
    if (one.strategy == "random")
      continue;
    EXPECT_LE(one.median, 30u);
    if (random > 10) {
      EXPECT_LE(2 * one.median, random);
    }
  }
}

} // namespace
