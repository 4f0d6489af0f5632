#include "kernelforge/eval/RoundSamples.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::ElementsAre;

namespace {

TEST(RoundSamples, UndisturbedIsWhatOneInTenSurpasses) {
  EXPECT_EQ(undisturbed({}), 0);
  EXPECT_EQ(undisturbed({7}), 7);
  std::vector<double> values;
  for (int i = 20; i >= 0; --i)
    values.push_back(i);
  EXPECT_EQ(undisturbed(values), 18);
}

TEST(RoundSamples, StatesDifferByArithmeticOrByExchange) {
  const MachineState usual{200, 30};
  EXPECT_TRUE(isUsual({181, 16}, usual));
  EXPECT_TRUE(isUsual({219, 38}, usual));
  EXPECT_FALSE(isUsual({179, 30}, usual)); // a core shared with someone
  EXPECT_FALSE(isUsual({200, 14}, usual)); // cores of two sockets
  EXPECT_FALSE(isUsual({221, 30}, usual));
  EXPECT_TRUE(isUsual({200, 30, 10, 10}, {200, 30, 100, 100})); // shared, as ever
  // One thread exchanges nothing.
  EXPECT_TRUE(isUsual({200, 0}, {200, 0}));
  EXPECT_TRUE(isUsual({200, 0}, usual));
}

TEST(RoundSamples, AloneIsToWriteAsFastAsEverAndToStay) {
  auto alone = [](double writing, double best, int64_t preemptions = 0) {
    return isAlone({1, 1, writing, writing, preemptions}, best);
  };
  EXPECT_TRUE(alone(118, 118));
  EXPECT_TRUE(alone(117, 118));
  EXPECT_FALSE(alone(115, 118)); // shared now and then
  EXPECT_TRUE(alone(118, 118, 1));
  EXPECT_FALSE(alone(118, 118, 2));
  EXPECT_TRUE(alone(130, 118)); // faster than ever
  EXPECT_FALSE(alone(0, 118));
  EXPECT_FALSE(alone(118, 0)); // nothing is known
  EXPECT_FALSE(alone(0, 0));
  EXPECT_EQ(aloneWriting({}), 0);
  EXPECT_EQ(aloneWriting({80, 90}), 80);
  EXPECT_EQ(aloneWriting({80, 118, 130, 117, 90}), 117); // one or two are odd
}

TEST(RoundSamples, CountInTheUsualStateAndNearTheirAnchor) {
  const MachineState usual{200, 30}, other{200, 5};
  // The anchor's median is of those in the usual state: 100, not 160.
  const std::vector<RoundSample> samples = {{0, 1, 100, usual}, {1, 1, 160, other},
                                            {2, 1, 95, usual},  {3, 1, 160, other},
                                            {4, 1, 112, usual}, {5, 1, 160, other}};
  EXPECT_THAT(countingSamples(samples, usual), ElementsAre(true, false, true, false, false, false));
  EXPECT_TRUE(countingSamples({}, usual).empty());
}

TEST(RoundSamples, ARowLacksWhatItsSamplesDoNotShow) {
  const MachineState usual{200, 30, 100, 100};
  const MachineState alone{200, 30, 100, 100, 0}, shared{200, 30, 100, 80, 0},
      other{100, 30, 100, 100, 0};
  auto lack = [&](int aloneSamples, int sharedSamples, int otherSamples, int rounds,
                  const MachineState &of) {
    std::vector<RoundSample> samples;
    auto add = [&](int count, const MachineState &machine) {
      for (int i = 0; i < count; ++i)
        samples.push_back({static_cast<int>(samples.size()), 1, 1, machine});
    };
    add(aloneSamples, alone);
    add(sharedSamples, shared);
    add(otherSamples, other);
    const SampleLack lack = lacking(samples, of, rounds);
    return std::pair(lack.usual, lack.alone);
  };
  EXPECT_EQ(lack(15, 0, 0, 15, usual), std::pair(false, false));
  // Of 15 rounds ten have to be alone, of 61 half of them, of six all.
  EXPECT_EQ(lack(10, 5, 0, 15, usual), std::pair(false, false));
  EXPECT_EQ(lack(9, 6, 0, 15, usual), std::pair(false, true));
  EXPECT_EQ(lack(30, 31, 0, 61, usual), std::pair(false, false));
  EXPECT_EQ(lack(29, 32, 0, 61, usual), std::pair(false, true));
  EXPECT_EQ(lack(6, 0, 0, 6, usual), std::pair(false, false));
  EXPECT_EQ(lack(5, 1, 0, 6, usual), std::pair(false, true));
  // A sample of another state counts for neither, wherever it was alone.
  EXPECT_EQ(lack(10, 4, 1, 15, usual), std::pair(true, false));
  EXPECT_EQ(lack(9, 6, 9, 15, usual), std::pair(false, true));
  // Further samples make up for those that do not count.
  EXPECT_EQ(lack(10, 5, 20, 15, usual), std::pair(false, false));
  // Where nobody knows how fast cores write alone, nothing can be awaited.
  EXPECT_EQ(lack(0, 15, 0, 15, {200, 30}), std::pair(false, false));
}

TEST(RoundSamples, OfABrokenRoundNothingIsKept) {
  RowSamples samples;
  samples.own = {{0, 10}, {2, 12}, {3, 13}};
  samples.vendors = {{20, 21, 22, 23}, {30, 31, 32}, {}};
  samples.keepRounds(3);
  ASSERT_EQ(samples.own.size(), 2);
  EXPECT_EQ(samples.own.back().ns, 12);
  EXPECT_THAT(samples.vendors,
              ElementsAre(ElementsAre(20, 21, 22), ElementsAre(30, 31, 32), ElementsAre()));
}

TEST(RoundSamples, OfAReportAreThoseThatCountAndThoseDropped) {
  const Json machine = {{"fma_f32", 200}, {"exchange", 30}, {"preemptions", 1}};
  Json row = {{"anchor", "read_l2"},
              {"samples_ns", {5, 6}},
              {"rounds", {0, 2}},
              {"anchor_samples", {50, 60}},
              {"machine_samples", {machine, machine}},
              {"dropped", {{{"round", 1}, {"ns", 9}, {"anchor", 90}, {"machine", machine}}}},
              {"vendors", {{{"samples_ns", {7, 8}}}, {{"status", "unavailable"}}}}};
  auto readRow = [&]() -> Expected<RowSamples> {
    KF_TRY(JsonDocument document, parseJson(row.dump(), "report is not usable", "report.json"));
    return readRowSamples(document.root());
  };
  Expected<RowSamples> read = readRow();
  ASSERT_TRUE(read) << read.error().line();
  ASSERT_EQ(read->own.size(), 3);
  for (int round = 0; round < 3; ++round)
    EXPECT_EQ(read->own[static_cast<size_t>(round)].round, round);
  EXPECT_EQ(read->anchor, "read_l2");
  EXPECT_EQ(read->own[1].ns, 9);
  EXPECT_EQ(read->own[2].anchor, 60);
  EXPECT_EQ(read->own[2].machine.preemptions, 1);
  EXPECT_THAT(read->vendors, ElementsAre(ElementsAre(7, 8), ElementsAre()));
  row["rounds"] = {0};
  EXPECT_FALSE(readRow());
  row.erase("samples_ns"); // a row that did not run
  read = readRow();
  ASSERT_TRUE(read);
  EXPECT_TRUE(read->own.empty());
}

} // namespace
