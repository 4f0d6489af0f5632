#include "kernelforge/measure/Ceilings.h"
#include "kernelforge/support/Amx.h"

#include <gtest/gtest.h>

#include <set>

using namespace kernelforge;

namespace {

CeilingOptions shortly() {
  CeilingOptions options;
  options.seconds = 0.003;
  return options;
}

TEST(Ceilings, PeaksArePlausible) {
  auto peaks = measurePeaks(shortly());
  ASSERT_TRUE(peaks);
  ASSERT_FALSE(peaks->empty());
  EXPECT_EQ(peaks->front().name, "fma_f32");
  std::set<std::string> names;
  for (const ArithmeticPeak &peak : *peaks) {
    EXPECT_TRUE(names.insert(peak.name).second);
    // A core does a billion operations a second even on a bad day, and no core does 10^14.
    EXPECT_GT(peak.oneCore, 1e9) << peak.name;
    EXPECT_LT(peak.oneCore, 1e14) << peak.name;
    EXPECT_GT(peak.allCores, 1e9) << peak.name;
  }
}

TEST(Ceilings, ATeamTakesLessThanASecond) {
  CeilingOptions options = shortly();
  options.threads = 2;
  auto overhead = measureTeamOverhead(options);
  ASSERT_TRUE(overhead);
  // Both may be 0 where a thread does its task while the other does its own.
  EXPECT_GE(overhead->run, 0);
  EXPECT_LT(overhead->run, 1);
  EXPECT_LT(overhead->step, 1);
  const std::atomic<bool> cancel = true;
  options.cancel = &cancel;
  EXPECT_FALSE(measureTeamOverhead(options));
}

TEST(Ceilings, BandwidthIsPlausible) {
  auto rates = measureReadBandwidth(shortly());
  ASSERT_TRUE(rates);
  ASSERT_FALSE(rates->empty());
  EXPECT_EQ(rates->back().level, "memory");
  int64_t bytes = 0;
  for (const ReadBandwidth &rate : *rates) {
    EXPECT_GT(rate.bytes, bytes);
    bytes = rate.bytes;
    EXPECT_GT(rate.oneCore, 1e8) << rate.level;
    EXPECT_LT(rate.oneCore, 1e13) << rate.level;
    EXPECT_GT(rate.allCores, 1e8) << rate.level;
  }
}

TEST(Ceilings, AmxIsPermittedOnlyWhereItIs) {
  const AmxState state = amxState();
  EXPECT_TRUE(state.present || !state.permitted);
}

TEST(Ceilings, CanBeInterrupted) {
  std::atomic<bool> cancel{true};
  CeilingOptions options = shortly();
  options.cancel = &cancel;
  auto peaks = measurePeaks(options);
  ASSERT_FALSE(peaks);
  EXPECT_EQ(peaks.error().kind, ErrorKind::Interrupted);
}

} // namespace
