#include "kernelforge/autotune/Worker.h"

#include <gtest/gtest.h>

using namespace kernelforge;

TEST(WorkerTurns, ReadAsMuchAsTheyAreToldBeforeTheFirstComesAgain) {
  for (const bool onDevice : {false, true}) {
    EXPECT_EQ(turnsOf(100, 1000, onDevice), 10U);
    EXPECT_EQ(turnsOf(300, 1000, onDevice), 4U);
    EXPECT_EQ(turnsOf(2000, 1000, onDevice), 1U);
    EXPECT_EQ(turnsOf(100, 0, onDevice), 1U) << "all calls read the same";
    EXPECT_EQ(turnsOf(0, 1000, onDevice), 1U);
  }
  EXPECT_LT(turnsOf(1, uint64_t(1) << 28, true), turnsOf(1, uint64_t(1) << 28, false))
      << "binding on a device takes its time";
}
