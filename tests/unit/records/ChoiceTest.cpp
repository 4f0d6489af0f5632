#include "Records.h"

#include "kernelforge/records/Choice.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <random>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// A good record of a schedule whose rounds take `ratios` of a baseline that drifts.
Record measured(const std::string &schedule, const std::vector<double> &ratios) {
  Record record = fullRecord();
  record.mode = "warm";
  record.schedule = R"({"name":")" + schedule + R"("})";
  record.codeHash = "code of " + schedule;
  record.samplesNs.clear();
  record.baselineNs.clear();
  double base = 1000;
  for (double ratio : ratios) {
    record.baselineNs.push_back(base);
    record.samplesNs.push_back(base * ratio);
    base *= 1.5;
  }
  return record;
}

std::string nameOf(const std::optional<Record> &record) {
  return record ? Json::parse(record->schedule)["name"].get<std::string>() : "none";
}

std::string nameOf(const std::optional<Choice> &choice) {
  return nameOf(choice ? std::optional(choice->record) : std::nullopt);
}

std::string winner(const std::vector<Record> &records, const ChoiceOptions &options = {}) {
  return nameOf(choose(records, options));
}

TEST(Ratio, IsOfRounds) {
  // The medians alone (200 and 100) would give 2.
  Ratio ratio = ratioOf(std::vector<double>{100, 200, 900}, std::vector<double>{100, 100, 1000});
  EXPECT_DOUBLE_EQ(ratio.median, 1);
  EXPECT_DOUBLE_EQ(ratio.mad, 0.1);
  EXPECT_EQ(ratio.rounds, 3u);
  EXPECT_EQ(ratioOf({}, std::vector<double>{1.0}).rounds, 0u);
  // Rounds that do not match: medians.
  EXPECT_DOUBLE_EQ(ratioOf(std::vector<double>{50, 70}, std::vector<double>{20}).median, 3);
}

TEST(Ratio, NoiseIsTwoPercentOrTheCombinedDeviationUpToFive) {
  EXPECT_TRUE(withinNoise({1, 0, 9}, {1, 0, 9}));
  EXPECT_TRUE(withinNoise({1, 0, 9}, {1.019, 0, 9}));
  EXPECT_FALSE(withinNoise({1, 0, 9}, {1.021, 0, 9}));
  EXPECT_TRUE(withinNoise({1, 0.03, 9}, {1.045, 0.04, 9}));  // hypot is 0.05
  EXPECT_FALSE(withinNoise({1, 0.02, 9}, {1.045, 0.02, 9})); // 0.028
  EXPECT_FALSE(withinNoise({1, 0.001, 9}, {1.06, 0.5, 9}));  // would be 0.5
  EXPECT_TRUE(withinNoise({1.019, 0, 9}, {1, 0, 9}));        // symmetric
  EXPECT_FALSE(withinNoise({1.06, 0.5, 9}, {1, 0.001, 9}));
}

TEST(Choice, TakesTheLeastRatioNotTheLeastTime) {
  Record a = measured("a", {0.9, 0.9}), b = measured("b", {0.6, 0.6});
  for (Record *slow : {&b}) // measured while the machine was slow
    for (std::vector<double> *times : {&slow->samplesNs, &slow->baselineNs})
      for (double &time : *times)
        time *= 10;
  std::optional<Choice> choice = choose(std::vector{a, b});
  EXPECT_EQ(nameOf(choice), "b");
  EXPECT_THAT(choice->reason, HasSubstr("0.600 of the time of blocked (warm)"));
  EXPECT_THAT(choice->reason, HasSubstr("best of 2 candidates"));
}

TEST(Choice, OnlyWhatIsOkAndRightQualifies) {
  const Record slow = measured("slow", {0.9});
  auto expectOut = [&](auto change, const char *what) {
    Record fast = measured("fast", {0.1});
    ASSERT_EQ(winner({slow, fast}), "fast");
    change(fast);
    EXPECT_EQ(winner({slow, fast}), "slow") << what;
    EXPECT_EQ(winner({fast}), "none") << what;
  };
  for (RecordStatus status :
       {RecordStatus::Unsupported, RecordStatus::Unavailable, RecordStatus::CompileError,
        RecordStatus::Timeout, RecordStatus::Crash, RecordStatus::WrongResult})
    expectOut([&](Record &r) { r.status = status; }, "status");
  expectOut([](Record &r) { r.accuracy->pass = false; }, "accuracy failed");
  expectOut([](Record &r) { r.accuracy.reset(); }, "accuracy unknown");
  expectOut([](Record &r) { r.trusted = false; }, "not trusted");
  expectOut([](Record &r) { r.software = true; }, "timed on an emulated device");
  expectOut([](Record &r) { r.samplesNs.clear(); }, "no samples");
  expectOut([](Record &r) { r.baselineNs.clear(); }, "no baseline");
}

TEST(Choice, CodeThatOnceFailedIsOut) {
  Record fast = measured("fast", {0.1}), wrong = fast, slow = measured("slow", {0.9});
  for (RecordStatus status : {RecordStatus::Crash, RecordStatus::WrongResult}) {
    wrong.status = status;
    EXPECT_EQ(winner({fast, wrong, slow}), "slow");
    EXPECT_EQ(winner({wrong, fast, slow}), "slow");
  }
  wrong.status = RecordStatus::Ok;
  wrong.accuracy->pass = false;
  EXPECT_EQ(winner({fast, wrong, slow}), "slow");
  wrong.codeHash = "other code";
  EXPECT_EQ(winner({fast, wrong, slow}), "fast");
  wrong = fast;
  wrong.status = RecordStatus::Timeout; // of a busy machine
  EXPECT_EQ(winner({fast, wrong, slow}), "fast");
}

TEST(Choice, TheDefaultWinsWhereNothingIsBetter) {
  const Record usual = [] {
    Record record = measured("usual", {1.0});
    record.scheduleSource = "analytic";
    return record;
  }();
  EXPECT_EQ(winner({usual, measured("slower", {1.05})}), "usual");
  EXPECT_EQ(winner({usual, measured("noise", {0.985})}), "usual");
  EXPECT_EQ(winner({usual, measured("better", {0.97})}), "better");
  EXPECT_THAT(choose(std::vector{usual, measured("noise", {0.985})})->reason,
              HasSubstr("the analytic default: none of 2 candidates was shown to be faster"));
  EXPECT_THAT(choose(std::vector{usual})->reason, HasSubstr("the only candidate"));
  // What is better than noise makes the baseline, but not the default's own record, is not better.
  Record lucky = usual;
  lucky.samplesNs = measured("", {0.96}).samplesNs;
  EXPECT_EQ(winner({lucky, measured("noise", {0.95})}), "usual");
  // What is better than a slow record of the default, but not than the baseline beside both,
  // either.
  Record unlucky = usual;
  unlucky.samplesNs = measured("", {1.06}).samplesNs;
  EXPECT_EQ(winner({unlucky, measured("noise", {0.99})}), "usual");
  // Of several that tie, one that is not better than the default does not win by its text.
  EXPECT_EQ(winner({usual, measured("a", {0.985}), measured("z", {0.97})}), "z");
  // Where the default's own record does not count, the baseline stands for it.
  Record untrusted = usual;
  untrusted.trusted = false;
  for (double ratio : {1.05, 1.01, 0.985})
    EXPECT_EQ(winner({untrusted, measured("noise", {ratio})}), "none") << ratio;
  EXPECT_EQ(winner({untrusted, measured("better", {0.97})}), "better");
}

TEST(Choice, TheDefaultIsOfGeneratedCode) {
  Record blocked = measured("blocked", {1.0});
  blocked.variant = "blocked";
  blocked.scheduleSource = "analytic"; // of its own knobs
  EXPECT_EQ(winner({blocked}), "none");
}

TEST(Choice, TiesOfWhatIsBetterGoToTheSmallestText) {
  Record a = measured("a", {0.705}), b = measured("b", {0.70}), c = measured("c", {0.71});
  EXPECT_EQ(winner({b, c, a}), "a");
  EXPECT_THAT(choose(std::vector{a, b, c})->reason,
              HasSubstr("3 of 3 candidates are within noise of the best (0.700): the smallest"));
  c.scheduleSource = "analytic";
  EXPECT_EQ(winner({b, c, a}), "c");
  // What the caller says is analytic goes before what records say.
  EXPECT_EQ(winner({b, c, a}, {R"({"name":"b"})", nullptr}), "b");
  // Not within noise: preference does not count.
  c = measured("c", {0.73});
  c.scheduleSource = "analytic";
  EXPECT_EQ(winner({b, c, a}), "a");
  EXPECT_EQ(winner({measured("z", {0.70}), c}), "z");
}

TEST(Choice, SaysWhyARecordTakesNoPart) {
  Record record = measured("a", {0.5});
  EXPECT_EQ(whyNotCompared(record), "");
  record.baselineNs.clear();
  EXPECT_EQ(whyNotCompared(record), "nothing was measured beside it");
  record.trusted = false;
  record.whyUntrusted.clear(); // as in records of before
  EXPECT_EQ(whyNotCompared(record), "not trusted: the measurement was disturbed");
  record.whyUntrusted = "samples are 1 to 9 us";
  EXPECT_EQ(whyNotCompared(record), "not trusted: samples are 1 to 9 us");
  record.software = true;
  EXPECT_EQ(whyNotCompared(record), "its times are of a device that the processor emulates");
  record.accuracy->pass = false;
  EXPECT_EQ(whyNotCompared(record), "its result is wrong");
  record.status = RecordStatus::Crash;
  record.error = "it died";
  EXPECT_EQ(whyNotCompared(record), "it died");
}

TEST(Choice, VariantsCompete) {
  Record ours = measured("x", {0.8}), vendor = measured("x", {0.5});
  vendor.variant = "vendor:openblas";
  EXPECT_EQ(choose(std::vector{ours, vendor})->record.variant, "vendor:openblas");
  ChoiceOptions options;
  options.admits = [](const Record &record) { return record.variant == "generated"; };
  EXPECT_EQ(choose(std::vector{ours, vendor}, options)->record.variant, "generated");
  vendor.samplesNs = ours.samplesNs; // a tie: the smaller name
  EXPECT_EQ(choose(std::vector{vendor, ours})->record.variant, "generated");
}

TEST(Choice, PoolsRepeatedMeasurements) {
  // Alone, the lucky one would win.
  Record lucky = measured("a", {0.5}), again = measured("a", {0.8, 0.8, 0.8, 0.8});
  Record steady = measured("b", {0.7, 0.7, 0.7});
  EXPECT_EQ(winner({lucky, steady}), "a");
  EXPECT_EQ(winner({lucky, steady, again}), "b");
  again.created = "2027-01-01T00:00:00Z";
  std::optional<Choice> choice = choose(std::vector{lucky, again});
  EXPECT_EQ(choice->ratio.rounds, 5u);
  EXPECT_DOUBLE_EQ(choice->ratio.median, 0.8);
  EXPECT_EQ(choice->record.created, again.created) << "not the newest";
  EXPECT_THAT(choice->reason, HasSubstr("the only candidate"));
}

TEST(Choice, OfOneScheduleTheLastCodeCounts) {
  Record before = measured("a", {0.5}), after = measured("a", {0.9}), other = measured("b", {0.7});
  after.codeHash = "new code";
  after.created = "2027-01-01T00:00:00Z";
  EXPECT_EQ(winner({before, other}), "a");
  EXPECT_EQ(winner({before, other, after}), "b");
  EXPECT_EQ(winner({after, other, before}), "b");
}

TEST(Choice, ComparesOnlyBesideOneBaselineInOneMode) {
  Record a = measured("a", {0.8}), b = measured("b", {0.9}), c = measured("c", {0.1});
  c.baseline = "reference"; // slow: no comparison
  EXPECT_EQ(winner({a, b, c}), "a");
  c.baseline = a.baseline;
  c.mode = "cold";
  EXPECT_EQ(winner({a, b, c}), "a");
  EXPECT_EQ(winner({c}), "c");
}

TEST(Choice, DoesNotDependOnTheOrder) {
  std::mt19937 random(7);
  std::vector<Record> records;
  for (int i = 0; i < 60; ++i) {
    const double center = 0.7 + 0.002 * static_cast<double>(random() % 100);
    Record record = measured(std::string(1, static_cast<char>('a' + random() % 20)),
                             {center, center * 1.01, center * 0.98});
    record.trial = i;
    record.codeHash = random() % 2 ? "x" : "y";
    record.created = "2026-01-0" + std::to_string(1 + random() % 3) + "T00:00:00Z";
    record.variant = random() % 4 ? "generated" : "blocked";
    record.baseline = random() % 5 ? "blocked" : "reference";
    record.scheduleSource = random() % 10 ? "pinned" : "analytic";
    record.status = random() % 15 ? RecordStatus::Ok : RecordStatus::Crash;
    records.push_back(record);
  }
  std::optional<Choice> first = choose(records);
  ASSERT_TRUE(first);
  for (int i = 0; i < 200; ++i) {
    std::shuffle(records.begin(), records.end(), random);
    std::optional<Choice> choice = choose(records);
    ASSERT_TRUE(choice);
    EXPECT_EQ(toJson(choice->record), toJson(first->record));
    EXPECT_EQ(choice->reason, first->reason);
    EXPECT_EQ(choice->ratio.median, first->ratio.median);
  }
}

TEST(Choice, IsOfOneKey) {
  Record a = measured("a", {0.8}), b = measured("b", {0.1});
  b.key.cpuModel = "another";
  EXPECT_EQ(nameOf(choose(std::vector{a, b}, a.key)), "a");
  EXPECT_EQ(nameOf(choose(std::vector{a, b}, b.key)), "b");
  RecordKey none = a.key;
  none.threads = 99;
  EXPECT_FALSE(choose(std::vector{a, b}, none));
  EXPECT_FALSE(choose(std::vector<Record>{}));
}

TEST(Choice, StaleIsWhatGivesOtherCodeNow) {
  EXPECT_FALSE(isStale(fullRecord(), "feed"));
  EXPECT_TRUE(isStale(fullRecord(), "beef"));
}

TEST(ProblemDistance, SumsLogarithmsAndWantsTheRestEqual) {
  EXPECT_EQ(problemDistance(R"({"m":1,"t":"f32"})", R"({"t":"f32","m":1})"), 0);
  EXPECT_DOUBLE_EQ(*problemDistance(R"({"m":64,"n":8})", R"({"m":16,"n":16})"), 3);
  EXPECT_DOUBLE_EQ(*problemDistance(R"({"n":[8,4],"o":{"p":2}})", R"({"n":[4,8],"o":{"p":1}})"), 3);
  EXPECT_FALSE(problemDistance(R"({"m":1,"t":"f32"})", R"({"m":1,"t":"f16"})"));
  EXPECT_FALSE(problemDistance(R"({"m":1})", R"({"m":1,"n":1})"));
  EXPECT_FALSE(problemDistance(R"({"m":1})", R"({"k":1})"));
  EXPECT_FALSE(problemDistance(R"({"m":0})", R"({"m":1})"));
  EXPECT_EQ(problemDistance(R"({"m":0})", R"({"m":0})"), 0);
  EXPECT_FALSE(problemDistance(R"({"n":[1,2]})", R"({"n":[1]})"));
  EXPECT_FALSE(problemDistance(R"({"b":true})", R"({"b":false})"));
  EXPECT_FALSE(problemDistance(R"({"m":1})", R"({"m":"1"})"));
  EXPECT_FALSE(problemDistance("{", "{}"));
  EXPECT_FALSE(problemDistance("[1]", "[1]"));
}

Record shaped(const std::string &name, int m, const std::string &type = "f32") {
  Record record = measured(name, {0.5});
  record.key.kernelHash = "kernel " + name;
  record.key.problem = R"({"m":)" + std::to_string(m) + R"(,"type":")" + type + R"("})";
  return record;
}

TEST(Transfer, TakesTheWinnerOfTheNearestProblem) {
  const RecordKey key = shaped("here", 100).key;
  Record near = shaped("near", 128), far = shaped("far", 8), other = shaped("other", 100, "f16");
  const std::vector winners{far, other, near};
  EXPECT_EQ(nameOf(nearest(winners, key)), "near");
  auto notNear = [](const Record &record) { return record.key.kernelHash != "kernel near"; };
  EXPECT_EQ(nameOf(nearest(winners, key, notNear)), "far");
  EXPECT_FALSE(nearest(winners, key, [](const Record &) { return false; }));
}

TEST(Transfer, DoesNotChooseAgain) {
  // A winner over all its rounds, of which this newest record alone would lose.
  Record near = shaped("near", 128);
  for (double &sample : near.samplesNs)
    sample *= 4;
  EXPECT_EQ(nameOf(choose(std::vector{near})), "none");
  EXPECT_EQ(nameOf(nearest(std::vector{near}, shaped("here", 100).key)), "near");
}

TEST(Transfer, OrdersKernelsByDistanceThoseThatCannotBeComparedLast) {
  const RecordKey key = shaped("here", 100).key;
  const std::vector<Record> records{shaped("far", 8),         shaped("near", 128),
                                    shaped("x", 8, "f16"),    shaped("here", 100),
                                    shaped("y", 128, "bf16"), shaped("far", 8)};
  std::vector<std::string> names;
  for (const NearKernel &kernel : kernelsNear(records, key)) {
    names.push_back(kernel.records.front()->key.kernelHash);
    EXPECT_EQ(kernel.comparable, names.size() <= 2);
    EXPECT_EQ(kernel.records.size(), names.back() == "kernel far" ? 2u : 1u);
  }
  // Of the last two the one with more similar sizes first.
  EXPECT_THAT(names, testing::ElementsAre("kernel near", "kernel far", "kernel y", "kernel x"));
}

TEST(Transfer, NeedsTheRestOfTheKey) {
  const RecordKey key = shaped("here", 100).key;
  auto expectNone = [&](auto change) {
    Record record = shaped("near", 128);
    ASSERT_TRUE(nearest(std::vector{record}, key));
    change(record.key);
    EXPECT_FALSE(nearest(std::vector{record}, key));
  };
  expectNone([](RecordKey &k) { k.family = "rowwise"; });
  expectNone([](RecordKey &k) { k.target = "x"; });
  expectNone([](RecordKey &k) { k.cpuModel = "x"; });
  expectNone([](RecordKey &k) { k.toolchain = "x"; });
  expectNone([](RecordKey &k) { k.threads = 3; });
  expectNone([](RecordKey &k) { k.affinity = "x"; });
}

TEST(Transfer, IsFromAnotherKeyAndDeterministic) {
  Record here = shaped("here", 100);
  EXPECT_FALSE(nearest(std::vector{here}, here.key));
  // As near above as below: the smaller problem text.
  Record below = shaped("below", 50), above = shaped("above", 200);
  EXPECT_EQ(nameOf(nearest(std::vector{below, above}, here.key)), "above"); // "200" < "50"
  EXPECT_EQ(nameOf(nearest(std::vector{above, below}, here.key)), "above");
}

} // namespace
