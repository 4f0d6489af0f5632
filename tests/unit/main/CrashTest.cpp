// Tests that end their program, one by each signal: what kills_name_tests.py runs. They are no
// tests of the suite.

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

volatile int *nowhere = nullptr;

int recurse(int depth) {
  volatile char room[4096] = {};
  room[depth % 4096] = 1;
  return depth == 0 ? room[0] : recurse(depth - 1) + room[depth % 4096];
}

TEST(Crash, Passes) {}
TEST(Crash, Segmentation) { *nowhere = 1; }
TEST(Crash, StackOverflow) { EXPECT_EQ(recurse(1 << 30), 1); }
TEST(Crash, InAThread) {
  std::thread([] { *nowhere = 1; }).join();
}
TEST(Crash, Abort) { std::abort(); }
TEST(Crash, SentBus) { raise(SIGBUS); }
TEST(Crash, SentArithmetic) { raise(SIGFPE); }
TEST(Crash, SentIllegal) { raise(SIGILL); }
TEST(Crash, OutOfBounds) { // without a sanitizer, nothing sees it
  std::vector<int> values(3);
  volatile int *first = values.data();
  first[3] = 1;
}

class CrashOf : public testing::TestWithParam<int> {};
TEST_P(CrashOf, AParameter) { *nowhere = GetParam(); }
INSTANTIATE_TEST_SUITE_P(Each, CrashOf, testing::Values(1));

class CrashBefore : public testing::Test {
protected:
  static void SetUpTestSuite() { *nowhere = 1; }
};
TEST_F(CrashBefore, ATest) {}

} // namespace
