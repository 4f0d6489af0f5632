#include "kernelforge/measure/Anchors.h"
#include "kernelforge/measure/CacheEviction.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

using namespace kernelforge;

namespace {

void runThreads(int threads, const std::function<void(int, int)> &member) {
  std::vector<std::jthread> others;
  for (int thread = 1; thread < threads; ++thread)
    others.emplace_back(member, thread, threads);
  member(0, threads);
}

TEST(Anchors, EachHasARateAndAUnit) {
  auto anchors = HostAnchors::create(2, runThreads, 0.001);
  ASSERT_TRUE(anchors) << anchors.error().line();
  const std::vector<std::string> &names = (*anchors)->names();
  ASSERT_FALSE(names.empty());
  EXPECT_EQ(names.front(), "fma_f32");
  EXPECT_EQ(names.back(), "read_memory");
  for (const std::string &name : names) {
    // Between a slow core on a bad day and what no core does, in units of 10^9; lines are passed a
    // million times, or hardly ever where the threads have one core between them.
    EXPECT_GT((*anchors)->measure(name), name == "exchange" ? 0 : 0.1) << name;
    EXPECT_LT((*anchors)->measure(name), 1e6) << name;
    EXPECT_EQ(Anchors::unit(name), name.starts_with("read_") ? "GB/s"
                                   : name == "exchange"      ? "M/s"
                                   : name.ends_with("_int8") ? "GOP/s"
                                                             : "GFLOP/s");
  }
  EXPECT_EQ(std::ranges::count(names, "exchange"), 1);
}

TEST(Anchors, WritingOfEachThread) {
  auto anchors = HostAnchors::create(2, runThreads, 0.004);
  ASSERT_TRUE(anchors);
  const Writing writing = (*anchors)->measureWriting();
  if ((*anchors)->readingAnchor(64) != "read_l1d")
    GTEST_SKIP() << "the first cache is not known";
  EXPECT_GT(writing.slowest, 0.1); // GB/s
  EXPECT_GE(writing.first, writing.slowest);
  EXPECT_LT(writing.first, 1e4);
}

TEST(Anchors, AWorkingSetIsReadFromTheFirstLevelThatHoldsIt) {
  auto anchors = HostAnchors::create(1, runThreads, 0.001);
  ASSERT_TRUE(anchors);
  const std::vector<std::string> &names = (*anchors)->names();
  EXPECT_EQ(std::ranges::count(names, "exchange"), 0); // nobody to exchange with
  EXPECT_EQ((*anchors)->readingAnchor(1e12), "read_memory");
  auto before = std::ranges::find(names, (*anchors)->readingAnchor(64));
  EXPECT_TRUE((*before).starts_with("read_"));
  for (double bytes = 64; bytes < 1e10; bytes *= 2) {
    auto level = std::ranges::find(names, (*anchors)->readingAnchor(bytes));
    EXPECT_LE(before - names.begin(), level - names.begin()) << bytes;
    before = level;
  }
}

TEST(CacheEviction, EveryThreadOfATeamTakesPart) {
  std::atomic<int> members = 0;
  auto eviction = CacheEviction::create(2, [&](int threads, const auto &member) {
    members = threads;
    runThreads(threads, member);
  });
  ASSERT_TRUE(eviction) << eviction.error().line();
  (*eviction)();
  EXPECT_EQ(members, 2);
}

} // namespace
