#include "kernelforge/support/Team.h"

#include "kernelforge/support/Host.h"

#include <atomic>
#include <csignal>
#include <gmock/gmock.h>
#include <map>
#include <mutex>
#include <optional>
#include <pthread.h>
#include <sched.h>
#include <set>
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

/// Steps of given numbers of tasks, and what became of them.
class Counted final : public SteppedWork {
public:
  explicit Counted(std::vector<int64_t> tasks) : counts(std::move(tasks)) {
    for (int64_t count : counts)
      done.emplace_back(count);
  }

  size_t steps() const override { return counts.size(); }
  int64_t tasks(size_t step) const override { return counts[step]; }
  void run(size_t step, int64_t task, int member) override {
    if (step != finished.load())
      ++early;
    if (inTask)
      inTask(step, task, member);
    ++done[step].at(size_t(task));
    ++ofStep;
  }
  bool completed(size_t step) override {
    if (ofStep.exchange(0) != counts[step] || step != finished.load())
      ++early;
    ++finished;
    return finished.load() != endAfter;
  }

  std::vector<int64_t> counts;
  std::vector<std::vector<std::atomic<int>>> done;
  std::function<void(size_t step, int64_t task, int member)> inTask;
  std::atomic<size_t> finished{0};
  std::atomic<int64_t> ofStep{0};
  std::atomic<int> early{0};
  size_t endAfter = SIZE_MAX;
};

TEST(Steps, EachTaskIsDoneOnceAndNobodyRunsAhead) {
  std::vector<int64_t> counts;
  for (int step = 0; step < 2000; ++step)
    counts.push_back(step % 7 == 0     ? 1
                     : step % 100 == 1 ? 380 + step % 11 * 100 // some in pieces of several
                                       : 1 + step * 37 % 23);
  for (int threads : {1, 2, 3, 7}) // the last is more than many machines have cores
    for (int repeat = 0; repeat < 3; ++repeat) {
      Counted work(counts);
      runSteps(threads, work);
      EXPECT_EQ(work.finished, counts.size());
      EXPECT_EQ(work.early, 0) << threads << " threads";
      for (const auto &step : work.done)
        for (const auto &times : step)
          ASSERT_EQ(times, 1);
    }
}

TEST(Steps, EndWhereTheWorkSays) {
  for (int threads : {1, 3})
    for (int64_t tasks : {1, 5}) {
      Counted work(std::vector<int64_t>(10, tasks));
      work.endAfter = 4;
      runSteps(threads, work);
      EXPECT_EQ(work.finished, 4u);
      EXPECT_EQ(work.early, 0);
      Counted none({});
      runSteps(threads, none);
    }
}

/// Takes a thread away from whatever it does, as the system does with one that it displaces.
class Displaced {
public:
  explicit Displaced(pthread_t thread) {
    away = back = false;
    struct sigaction action = {};
    action.sa_handler = [](int) {
      away = true;
      while (!back)
        ::sched_yield();
      away = false;
    };
    ::sigaction(SIGUSR1, &action, &before);
    ::pthread_kill(thread, SIGUSR1);
    while (!away)
      std::this_thread::yield();
  }
  ~Displaced() {
    back = true;
    while (away)
      std::this_thread::yield();
    ::sigaction(SIGUSR1, &before, nullptr);
  }

  static inline std::atomic<bool> away, back;

private:
  struct sigaction before = {};
};

TEST(Steps, AThreadWithoutATaskIsNotWaitedFor) {
  apart([] {
    pthread_t other{};
    runTeam(2, [&](int index, int) {
      if (index == 1)
        other = ::pthread_self();
    });
    std::atomic<bool> done{false};
    const Displaced displaced(other);
    // Where it is waited for, the run would not end.
    std::thread watch([&] {
      for (int i = 0; i < 300 && !done; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
      EXPECT_TRUE(done) << "a thread without a task was waited for";
      Displaced::back = true;
    });
    for (int run = 0; run < 3; ++run) {
      Counted work({2, 64, 1, 64});
      runSteps(2, work);
      EXPECT_EQ(work.early, 0);
      EXPECT_EQ(work.finished, 4u);
    }
    done = true;
    watch.join();
  });
}

TEST(Steps, AThreadThatComesBackLateTakesNothingThatIsDone) {
  // It was away while runs ended and others began, which is when it must not take their ticket for
  // that of a step that it knew.
  apart([] {
    pthread_t other{};
    runTeam(2, [&](int index, int) {
      if (index == 1)
        other = ::pthread_self();
    });
    for (int repeat = 0; repeat < 50; ++repeat) {
      std::optional<Displaced> displaced(std::in_place, other);
      Counted first({2, 5}), second({3, 3, 3, 3, 3, 3});
      runSteps(2, first);
      second.inTask = [&](size_t step, int64_t task, int) {
        if (step == 2 && task == 0)
          displaced.reset();
      };
      runSteps(2, second);
      for (const Counted *work : {&first, &second}) {
        EXPECT_EQ(work->early, 0);
        for (const auto &step : work->done)
          for (const auto &times : step)
            ASSERT_EQ(times, 1);
      }
    }
  });
}

TEST(Steps, WithinAMemberAreDoneByItAlone) {
  std::atomic<int> wrong{0};
  runTeam(3, [&](int, int) {
    Counted inner({4, 4});
    const auto self = std::this_thread::get_id();
    inner.inTask = [&](size_t, int64_t, int member) {
      if (member != 0 || std::this_thread::get_id() != self)
        ++wrong;
    };
    runSteps(3, inner);
    runTeam(3, [&](int index, int team) {
      if (index != 0 || team != 1)
        ++wrong;
    });
  });
  EXPECT_EQ(wrong, 0);
}

TEST(Team, EveryMemberIsCalledOnAThreadOfItsOwn) {
  for (int repeat = 0; repeat < 50; ++repeat) {
    std::vector<std::thread::id> ids(4);
    std::atomic<int> here{0};
    runTeam(4, [&](int index, int team) {
      ASSERT_EQ(team, 4);
      ids[size_t(index)] = std::this_thread::get_id();
      for (++here; here < 4;) // all at once
        std::this_thread::yield();
    });
    EXPECT_EQ(ids[0], std::this_thread::get_id());
    EXPECT_EQ(std::set(ids.begin(), ids.end()).size(), 4u);
  }
}

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
