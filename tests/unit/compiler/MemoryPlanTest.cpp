// The arena's plan: nothing overlaps, space is used again, nothing overflows.
#include "kernelforge/compiler/MemoryPlan.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <random>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// Fails the test unless the plan is right for the lifetimes.
void expectValid(const std::vector<Lifetime> &lifetimes, const MemoryPlan &plan) {
  ASSERT_EQ(plan.offsets.size(), lifetimes.size());
  int64_t end = 0;
  for (size_t i = 0; i < lifetimes.size(); ++i) {
    EXPECT_GE(plan.offsets[i], 0);
    EXPECT_EQ(plan.offsets[i] % 64, 0);
    end = std::max(end, plan.offsets[i] + lifetimes[i].bytes);
    for (size_t j = 0; j < i; ++j) {
      bool inTime =
          lifetimes[i].first <= lifetimes[j].last && lifetimes[j].first <= lifetimes[i].last;
      bool inSpace = plan.offsets[i] < plan.offsets[j] + lifetimes[j].bytes &&
                     plan.offsets[j] < plan.offsets[i] + lifetimes[i].bytes;
      EXPECT_FALSE(inTime && inSpace) << "buffers " << j << " and " << i;
    }
  }
  EXPECT_GE(plan.arenaBytes, end);
  EXPECT_LT(plan.arenaBytes, end + 64);
}

TEST(MemoryPlan, NoBuffersNeedNoSpace) {
  auto plan = planMemory({});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->arenaBytes, 0);
  EXPECT_TRUE(plan->offsets.empty());
}

TEST(MemoryPlan, NothingOverlapsInTimeAndSpace) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<Lifetime> lifetimes(random() % 40);
    for (Lifetime &lifetime : lifetimes) {
      lifetime.bytes = static_cast<int64_t>(random() % (round % 2 ? 300 : 100000));
      lifetime.first = static_cast<int>(random() % 30);
      lifetime.last = lifetime.first + static_cast<int>(random() % 6);
    }
    auto plan = planMemory(lifetimes);
    ASSERT_TRUE(plan);
    expectValid(lifetimes, *plan);
    int64_t total = 0;
    for (const Lifetime &lifetime : lifetimes)
      total += (lifetime.bytes + 63) / 64 * 64;
    EXPECT_LE(plan->arenaBytes, total);
  }
}

TEST(MemoryPlan, ChainNeedsTheSpaceOfTwo) {
  // Each is written by one launch and read by the next.
  std::vector<Lifetime> chain;
  for (int i = 0; i < 30; ++i)
    chain.push_back({1000, i, i + 1});
  auto plan = planMemory(chain);
  ASSERT_TRUE(plan);
  expectValid(chain, *plan);
  EXPECT_EQ(plan->arenaBytes, 2 * 1024);
}

TEST(MemoryPlan, BuffersOfOneLaunchLieSideBySide) {
  std::vector<Lifetime> lifetimes{{64, 3, 3}, {65, 3, 3}, {1, 3, 3}};
  auto plan = planMemory(lifetimes);
  ASSERT_TRUE(plan);
  expectValid(lifetimes, *plan);
  EXPECT_EQ(plan->arenaBytes, 64 + 128 + 64);
}

TEST(MemoryPlan, AGapThatFitsIsFilled) {
  // The largest at the bottom, the long-lived one above it, and the last where the largest was.
  std::vector<Lifetime> lifetimes{{1024, 0, 1}, {512, 0, 5}, {256, 2, 5}};
  auto plan = planMemory(lifetimes);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->offsets, (std::vector<int64_t>{0, 1024, 0}));
  EXPECT_EQ(plan->arenaBytes, 1024 + 512);
}

TEST(MemoryPlan, OverflowIsRefused) {
  constexpr int64_t most = std::numeric_limits<int64_t>::max();
  for (const std::vector<Lifetime> &lifetimes :
       {std::vector<Lifetime>{{most, 0, 0}}, std::vector<Lifetime>{{most, 0, 0}, {most, 0, 0}},
        std::vector<Lifetime>{{most / 2 - 64, 0, 0}, {most / 2 - 64, 0, 0}},
        std::vector<Lifetime>{{64, 0, 0}, {most - 63, 0, 0}}, std::vector<Lifetime>{{-1, 0, 0}},
        std::vector<Lifetime>{{64, 0, 0}, {-1, 0, 0}},
        std::vector<Lifetime>{{std::numeric_limits<int64_t>::min(), 0, 0}, {64, 0, 0}}}) {
    auto plan = planMemory(lifetimes);
    ASSERT_FALSE(plan);
    EXPECT_EQ(plan.error().kind, ErrorKind::Unusable);
    EXPECT_THAT(plan.error().line(), HasSubstr("overflow"));
  }
}

TEST(MemoryPlan, ManyLargeBuffersThatNeverMeetAreFine) {
  constexpr int64_t large = std::numeric_limits<int64_t>::max() / 4 - 64;
  std::vector<Lifetime> lifetimes{{large, 0, 0}, {large, 1, 1}, {large, 2, 2}};
  auto plan = planMemory(lifetimes);
  ASSERT_TRUE(plan);
  expectValid(lifetimes, *plan);
}

} // namespace
