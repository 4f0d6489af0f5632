#include "kernelforge/backend/cpu/Team.h"

#include "kernelforge/support/Host.h"

#include <gmock/gmock.h>
#include <map>
#include <mutex>
#include <thread>

using namespace kernelforge;
using testing::ElementsAre;

namespace {

/// Where the members of a team may run.
std::map<int, std::vector<int>> placesOf(int threads) {
  std::map<int, std::vector<int>> places;
  std::mutex mutex;
  runTeam(threads, [&](int index, int) {
    const std::lock_guard lock(mutex);
    places[index] = usableCpus();
  });
  return places;
}

/// On a thread of its own: a team belongs to the thread that calls it.
void apart(const std::function<void()> &body) { std::thread(body).join(); }

TEST(BoundTeam, EachMemberButTheCallerHasACpuOfItsOwn) {
  if (usableCpus().size() < 2)
    GTEST_SKIP() << "one CPU";
  apart([] {
    const std::vector<int> all = usableCpus();
    {
      const BoundTeam team(2, all);
      ASSERT_TRUE(team.isBound());
      auto places = placesOf(2);
      EXPECT_EQ(places[0], all);
      EXPECT_THAT(places[1], ElementsAre(all[1]));
      {
        const BoundCaller bound(all[0]);
        EXPECT_THAT(placesOf(2)[0], ElementsAre(all[0]));
      }
      EXPECT_EQ(placesOf(2)[0], all);
    }
    EXPECT_EQ(placesOf(2)[1], all);
  });
}

TEST(BoundTeam, WhatCannotBeBoundIsLeftAlone) {
  apart([] {
    const std::vector<int> all = usableCpus();
    EXPECT_FALSE(BoundTeam(2, std::vector{all[0]}).isBound());
    EXPECT_FALSE(BoundTeam(2, std::vector{all[0], 1'000'000}).isBound());
    for (const auto &[index, places] : placesOf(2))
      EXPECT_EQ(places, all) << index;
    const BoundCaller nowhere(-1);
    EXPECT_EQ(usableCpus(), all);
  });
}

} // namespace
