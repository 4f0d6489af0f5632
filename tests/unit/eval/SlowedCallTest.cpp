#include "kernelforge/eval/SlowedCall.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

using namespace kernelforge;

namespace {

TEST(SlowedCall, TakesAsManyTimesAsLong) {
  using Clock = std::chrono::steady_clock;
  constexpr auto sleep = std::chrono::milliseconds(5);
  for (bool readsMemory : {false, true}) {
    int calls = 0;
    auto call = slowedCall(
        [&]() -> Status {
          ++calls;
          std::this_thread::sleep_for(sleep);
          return {};
        },
        3, readsMemory, 2);
    ASSERT_TRUE(call) << call.error().line();
    const auto begin = Clock::now();
    ASSERT_TRUE((*call)());
    EXPECT_GE(Clock::now() - begin, 3 * sleep);
    EXPECT_EQ(calls, 1);
  }
}

TEST(SlowedCall, AnErrorIsNotWaitedFor) {
  auto call =
      slowedCall([]() -> Status { return failed("broken", "here", "it is"); }, 1e9, false, 1);
  ASSERT_TRUE(call);
  EXPECT_FALSE((*call)());
}

} // namespace
