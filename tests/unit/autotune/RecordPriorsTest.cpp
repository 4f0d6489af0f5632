// What a search is told of the records of other kernels.
#include "kernelforge/autotune/RecordPriors.h"

#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

const RecordKey here{"matmul", "00",  R"({"m":8,"n":64,"types":"f32"})", "target", "cpu", "LLVM 19",
                     2,        "none"};

RecordKey other(std::string hash, std::string problem) {
  RecordKey key = here;
  key.kernelHash = std::move(hash);
  key.problem = std::move(problem);
  return key;
}

const RecordKey near = other("01", R"({"m":8,"n":128,"types":"f32"})");
const RecordKey far = other("02", R"({"m":64,"n":128,"types":"f32"})");
const RecordKey otherTypes = other("03", R"({"m":8,"n":64,"types":"q8_0"})");

Record recordOf(const RecordKey &key, int64_t mr, double ratio) {
  Record record;
  record.key = key;
  record.schedule = knobsText({{"mr", mr}});
  record.baseline = "schedule {}";
  record.ratio = ratio;
  record.predictedNs = 1000 * ratio;
  record.strategy = "model";
  record.seed = 3;
  return record;
}

/// The ratios of each list.
std::vector<std::vector<double>> ratios(const std::vector<Record> &records,
                                        std::string_view strategy = "model", uint64_t seed = 3) {
  std::vector<std::vector<double>> all;
  for (const std::vector<PriorTrial> &trials : recordPriors(records, here, strategy, seed)) {
    all.emplace_back();
    for (const PriorTrial &trial : trials)
      all.back().push_back(trial.seconds);
  }
  return all;
}

using Ratios = std::vector<std::vector<double>>;

TEST(RecordPriors, AreOneListAKernelTheNearestFirst) {
  const std::vector<Record> records{recordOf(otherTypes, 1, 0.7), recordOf(far, 1, 0.5),
                                    recordOf(near, 2, 0.9), recordOf(near, 1, 1.1),
                                    recordOf(far, 4, 0.6)};
  EXPECT_EQ(ratios(records), (Ratios{{0.9, 1.1}, {0.5, 0.6}, {0.7}}));
  const PriorTrial first = recordPriors(records, here, "model", 3).front().front();
  EXPECT_EQ(first.knobs, (KnobValues{{"mr", 2}}));
  EXPECT_DOUBLE_EQ(first.predicted, 900e-9);
}

TEST(RecordPriors, OfAScheduleTheLastRatioCounts) {
  EXPECT_EQ(ratios({recordOf(near, 1, 0.9), recordOf(near, 2, 0.8), recordOf(near, 1, 0.7)}),
            (Ratios{{0.7, 0.8}}));
}

TEST(RecordPriors, RatiosToOtherBaselinesAreListsOfTheirOwn) {
  Record poor = recordOf(near, 2, 0.2);
  poor.baseline = "schedule {\"mr\":9}";
  EXPECT_EQ(ratios({recordOf(near, 1, 0.9), poor}), (Ratios{{0.2}, {0.9}}));
}

TEST(RecordPriors, WhatSaysNothingIsLeftOut) {
  std::vector<Record> records(8, recordOf(near, 1, 0.9));
  records[0].variant = "blocked";
  records[1].status = RecordStatus::Timeout;
  records[2].trusted = false;
  records[3].ratio.reset();
  records[4].predictedNs.reset();
  records[5].schedule = "{";
  records[6].key.cpuModel = "another";
  records[7].key.threads = 3;
  for (const Record &record : records)
    EXPECT_TRUE(recordPriors({&record, 1}, here, "model", 3).empty());
}

/// The search itself is told apart by key, strategy and seed.
TEST(RecordPriors, EndWhereTheSearchBegan) {
  Record own = recordOf(here, 1, 1), otherSeed = own, otherStrategy = own;
  otherSeed.seed = 4;
  otherStrategy.strategy = "random";
  const std::vector<Record> records{recordOf(near, 1, 0.9), otherSeed, otherStrategy,
                                    recordOf(near, 2, 0.8), own,       recordOf(near, 4, 0.7),
                                    recordOf(far, 1, 0.6)};
  EXPECT_EQ(ratios(records), (Ratios{{0.9, 0.8}}));
  EXPECT_EQ(ratios(records, "model", 4), (Ratios{{0.9}}));
  EXPECT_EQ(ratios(records, "random", 3), (Ratios{{0.9}}));
  EXPECT_EQ(ratios(records, "evolutionary", 3), (Ratios{{0.9, 0.8, 0.7}, {0.6}}));
}

} // namespace
