#include "kernelforge/measure/Timing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <thread>

using namespace kernelforge;

namespace {

TEST(Timing, MedianAndDeviation) {
  EXPECT_EQ(median({}), 0);
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({9, 1, 5}), 5);
  EXPECT_EQ(median({4, 1, 9, 2}), 3);
  const std::vector<double> values{1, 1, 2, 2, 4, 6, 9};
  EXPECT_EQ(medianAbsoluteDeviation(values), 1);
  const std::vector<double> outlier{10, 10, 10, 1e9};
  EXPECT_EQ(medianAbsoluteDeviation(outlier), 0);
}

TEST(Timing, MeasuresACallThatSleeps) {
  TimingOptions options;
  options.minSeconds = 0;
  options.rounds = 5;
  int calls = 0;
  auto timing = measureTime(
      [&]() -> Status {
        ++calls;
        std::this_thread::sleep_for(std::chrono::milliseconds(3));
        return {};
      },
      options);
  ASSERT_TRUE(timing);
  EXPECT_EQ(timing->samples.size(), 5u);
  EXPECT_GE(timing->median, 3e6);
  EXPECT_LE(timing->batch, 4);
  EXPECT_GE(calls, options.warmup + 5);
}

TEST(Timing, IsWatchedWithoutCountingThat) {
  TimingOptions options;
  options.warmup = 0;
  options.batchSeconds = 0.1; // of some calls, however late a busy machine wakes them up
  std::string order;
  auto watched = [&](int microseconds) {
    TimedCall timed(
        [&order, microseconds]() -> Status {
          order += 'c';
          std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
          return {};
        },
        options);
    EXPECT_TRUE(timed.start());
    order.clear();
    const double ns = *timed.sample(/*settle=*/false, [&] {
      order += 'w';
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    });
    EXPECT_LT(ns, 19e6) << "counts what watches";
    return timed.batch();
  };
  // Short calls: in four parts, of which one call does not count but in the first.
  const int64_t batch = watched(50);
  ASSERT_GE(batch, 4);
  EXPECT_EQ(std::ranges::count(order, 'w'), 5);
  EXPECT_EQ(std::ranges::count(order, 'c'), batch + 3);
  EXPECT_TRUE(order.starts_with('w') && order.ends_with('w'));
  EXPECT_EQ(order.find("ww"), std::string::npos);
  // One call is not parted.
  options.batchSeconds = 0.001;
  ASSERT_EQ(watched(5000), 1);
  EXPECT_EQ(order, "wcw");
}

TEST(Timing, MeasuresSeveralCallsInRounds) {
  TimingOptions options;
  options.minSeconds = 0;
  options.rounds = 6;
  options.warmup = 0;
  options.batchSeconds = 0;
  options.mostSeconds = 0.02;
  std::string order;
  auto call = [&](char name, int milliseconds) -> std::function<Status()> {
    return [&order, name, milliseconds]() -> Status {
      order += name;
      std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
      return {};
    };
  };
  const std::vector<std::function<Status()>> calls{call('a', 0), call('b', 1), call('c', 30)};
  auto timings = measureInRounds(calls, options);
  ASSERT_TRUE(timings);
  ASSERT_EQ(timings->size(), 3u);
  EXPECT_EQ((*timings)[0].samples.size(), 6u);
  EXPECT_EQ((*timings)[1].samples.size(), 6u);
  EXPECT_EQ((*timings)[2].samples.size(), 1u) << "too slow for more than a round";
  EXPECT_GE((*timings)[1].median, 1e6);
  // The order rotates: after the calls that find the size of a batch, abc, then ba, ab, ...
  std::string shortened; // a batch of the quick call may have many calls
  for (char c : order)
    if (shortened.empty() || shortened.back() != c)
      shortened += c;
  EXPECT_EQ(shortened.substr(0, 6), "abcabc");
  EXPECT_NE(shortened.find("cba"), std::string::npos);
}

TEST(Timing, EmptiesCachesBeforeEverySampleOfOneCall) {
  TimingOptions options;
  options.minSeconds = 0;
  options.rounds = 4;
  options.warmup = 1;
  std::string order;
  options.evict = [&] { order += 'e'; };
  auto timing = measureTime(
      [&]() -> Status {
        order += 'c';
        return {};
      },
      options);
  ASSERT_TRUE(timing);
  EXPECT_EQ(order, "cecececec");
  EXPECT_EQ(timing->batch, 1);
}

TEST(Timing, BatchesShortCalls) {
  TimingOptions options;
  options.minSeconds = 0;
  options.rounds = 3;
  options.batchSeconds = 0.001;
  volatile int counter = 0;
  auto timing = measureTime(
      [&]() -> Status {
        counter = counter + 1;
        return {};
      },
      options);
  ASSERT_TRUE(timing);
  EXPECT_GT(timing->batch, 1000);
  EXPECT_LT(timing->median, 1e4);
}

TEST(Timing, OneSlowCallDoesNotSettleABatch) {
  TimingOptions options;
  options.warmup = 1;
  int calls = 0;
  TimedCall timed(
      [&]() -> Status {
        if (++calls == 2) // the first that a batch is measured by
          std::this_thread::sleep_for(std::chrono::milliseconds(30));
        return {};
      },
      options);
  ASSERT_TRUE(timed.start());
  EXPECT_GT(timed.batch(), 1000);
}

TEST(Timing, ABatchThatEndsAtOnceIsChosenAnew) {
  TimingOptions options;
  options.warmup = 1;
  bool slow = true; // as where threads lose their cores for longer than it takes to choose
  TimedCall timed(
      [&]() -> Status {
        if (slow)
          std::this_thread::sleep_for(std::chrono::milliseconds(20));
        return {};
      },
      options);
  ASSERT_TRUE(timed.start());
  ASSERT_EQ(timed.batch(), 1);
  slow = false;
  const double ns = *timed.sample(/*settle=*/false);
  EXPECT_GT(timed.batch(), 1000);
  EXPECT_LT(ns, 1e4);
}

TEST(Timing, EverySampleOfAQuickCallHasCompany) {
  TimingOptions options;
  options.warmup = 1;
  options.batchSeconds = 0.25;
  int calls = 0;
  TimedCall timed(
      [&]() -> Status {
        ++calls;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        return {};
      },
      options);
  ASSERT_TRUE(timed.start());
  for (int i = 0; i < 6; ++i) { // more than a second of samples
    calls = 0;
    ASSERT_TRUE(timed.sample(/*settle=*/true));
    EXPECT_EQ(calls, timed.batch() + 1) << i;
  }
}

TEST(Timing, MeasuresAsLongAsItWasAsked) {
  TimingOptions options;
  options.minSeconds = 0.05;
  options.rounds = 1;
  options.batchSeconds = 0.001;
  const auto start = std::chrono::steady_clock::now();
  auto timing = measureTime([]() -> Status { return {}; }, options);
  ASSERT_TRUE(timing);
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(50));
  // Several, unless the first was held up for as long as all were to take.
  EXPECT_TRUE(timing->samples.size() > 1 ||
              timing->samples.front() * static_cast<double>(timing->batch) >= 5e7);
}

TEST(Timing, EndsWithTheFirstError) {
  int calls = 0;
  auto timing = measureTime([&]() -> Status {
    if (++calls == 2)
      return failed("launch failed", "test", "second call");
    return {};
  });
  ASSERT_FALSE(timing);
  EXPECT_EQ(timing.error().why, "second call");
  EXPECT_EQ(calls, 2);
}

TEST(Timing, CanBeInterrupted) {
  std::atomic<bool> cancel{true};
  TimingOptions options;
  options.cancel = &cancel;
  auto timing = measureTime([]() -> Status { return {}; }, options);
  ASSERT_FALSE(timing);
  EXPECT_EQ(timing.error().kind, ErrorKind::Interrupted);
}

TEST(Timing, ADevicesClockGivesTheSampleAndTheHostsTheBatch) {
  TimingOptions options;
  options.warmup = 0;
  options.batchSeconds = 0.01;
  int64_t most = 0;
  // A run keeps the host for a millisecond, and the device for three nanoseconds.
  const TimedCalls calls = [&](int64_t count) -> Expected<CallTimes> {
    most = std::max(most, count);
    return CallTimes{3.0 * static_cast<double>(count), 1e6 * static_cast<double>(count)};
  };
  TimedCall timed(calls, options);
  ASSERT_TRUE(timed.start());
  EXPECT_EQ(timed.batch(), 10);
  EXPECT_DOUBLE_EQ(timed.sample(/*settle=*/true).value(), 3);
  EXPECT_LE(most, 10) << "a quick device is not run until its own clock has seen ten milliseconds";
  EXPECT_DOUBLE_EQ(timed.finish().median, 3);
}

TEST(Timing, AnErrorOfADeviceEndsIt) {
  const TimedCalls lost = [](int64_t) -> Expected<CallTimes> {
    return makeError(ErrorKind::Lost, "device was lost", "GPU", "it was reset");
  };
  const Expected<std::vector<Timing>> timings = measureInRounds(std::span(&lost, 1), {});
  ASSERT_FALSE(timings);
  EXPECT_EQ(timings.error().kind, ErrorKind::Lost);
}

} // namespace
