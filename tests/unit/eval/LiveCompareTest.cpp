#include "kernelforge/eval/LiveCompare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

using namespace kernelforge;
using testing::ElementsAre;
using testing::HasSubstr;
namespace fs = std::filesystem;

namespace {

/// Programs that answer as suite workers do, with times drawn by a seed.
class LiveCompare : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "kernelforge-live-XXXXXX").string();
    ASSERT_TRUE(mkdtemp(pattern.data()));
    folder = pattern;
    options.suite = {{"name", "made"}};
    options.settleSeconds = 0;
    options.openSeconds = options.answerSeconds = 20;
  }
  void TearDown() override { fs::remove_all(folder); }

  /// The path of a program with that configuration.
  std::string program(const std::string &name, Json config) {
    const fs::path file = folder / name, configFile = folder / (name + ".json");
    config["seed"] = std::hash<std::string>()(name) % 1000 + seed;
    std::ofstream(configFile) << config.dump();
    std::ofstream(file) << "#!/bin/sh\nexec " FAKE_SUITE_WORKER " " << configFile << " \"$@\"\n";
    fs::permissions(file, fs::perms::owner_all);
    fs::remove(configFile.string() + ".starts");
    return file.string();
  }
  int startsOf(const std::string &program) {
    int starts = 0;
    std::ifstream(program + ".json.starts") >> starts;
    return starts;
  }

  /// Rows "a" to "f"; "a" takes `factor` times as long.
  static Json rowsWith(double factor, double noise = 0.01, double placement = 0.002) {
    Json rows = Json::array();
    for (char name : std::string("abcdef"))
      rows.push_back({{"name", std::string(1, name) + "/(m=1)"},
                      {"status", "ok"},
                      {"ns", 1000 * (name == 'a' ? factor : 1)},
                      {"noise", noise},
                      {"placement", placement},
                      {"accuracy", {{"pass", true}, {"l2_rel", 1e-7}}}});
    return rows;
  }

  Comparison compared(const std::string &a, const std::string &b) {
    Expected<Comparison> comparison = compareLive(a, b, options);
    EXPECT_TRUE(comparison) << comparison.error().line();
    return comparison ? std::move(*comparison) : Comparison{};
  }
  std::string errorOf(const std::string &a, const std::string &b) {
    Expected<Comparison> comparison = compareLive(a, b, options);
    return comparison ? "compared" : comparison.error().line();
  }

  fs::path folder;
  LiveOptions options;
  uint64_t seed = 0;
};

TEST_F(LiveCompare, SameProgramsAreTheSame) {
  const std::string a = program("old", {{"rows", rowsWith(1)}, {"commit", "abc"}});
  const std::string b = program("new", {{"rows", rowsWith(1)}, {"commit", "def"}});
  int64_t told = 0;
  options.progress = [&](int64_t done, int64_t total) {
    EXPECT_LE(done, total);
    ++told;
  };
  const Comparison c = compared(a, b);
  EXPECT_EQ(c.kind, "live");
  EXPECT_EQ(c.verdict, Verdict::Same);
  EXPECT_EQ(c.a["git_commit"], "abc");
  EXPECT_EQ(c.b["git_commit"], "def");
  EXPECT_EQ(c.b["binary"], b);
  ASSERT_EQ(c.rows.size(), 6u);
  for (const RowComparison &row : c.rows) {
    EXPECT_EQ(row.verdict, Verdict::Same) << row.name << ": " << row.why;
    EXPECT_EQ(row.samples, 25u);
    EXPECT_NEAR(*row.ratio, 1, 0.02);
  }
  EXPECT_EQ(told, 6 * 25);
  EXPECT_EQ(startsOf(a), 4); // no second stage
  EXPECT_EQ(startsOf(b), 4);
}

TEST_F(LiveCompare, FindsWhatChanged) {
  const std::string old = program("old", {{"rows", rowsWith(1)}});
  const Comparison slower = compared(old, program("slow", {{"rows", rowsWith(1.05)}}));
  EXPECT_EQ(slower.verdict, Verdict::Regressed);
  EXPECT_EQ(slower.rows[0].verdict, Verdict::Regressed) << slower.rows[0].why;
  EXPECT_NEAR(*slower.rows[0].ratio, 1.05, 0.01);
  EXPECT_EQ(slower.rows[1].verdict, Verdict::Same);
  EXPECT_EQ(startsOf(old), 4 + 12); // confirmed by new processes
  const Comparison faster = compared(old, program("fast", {{"rows", rowsWith(0.9)}}));
  EXPECT_EQ(faster.verdict, Verdict::Improved);
  EXPECT_NEAR(*faster.geomeanRatio, std::pow(0.9, 1.0 / 6), 0.005);
}

TEST_F(LiveCompare, NoiseGetsMoreRoundsAndNoVerdict) {
  const std::string old = program("old", {{"rows", rowsWith(1, 0.3)}});
  const Comparison c = compared(old, program("new", {{"rows", rowsWith(1, 0.3)}}));
  EXPECT_EQ(c.verdict, Verdict::Inconclusive);
  EXPECT_EQ(c.rows[0].samples, 400u); // those of the second stage alone
  ASSERT_TRUE(c.rows[0].samplesNeeded);
  EXPECT_GT(*c.rows[0].samplesNeeded, 400u);
}

TEST_F(LiveCompare, FalseChangesWhereProcessesDiffer) {
  // Processes of one program differ by 1.5 %, samples by 3 %.
  options.rounds = 12;
  options.moreRounds = options.mostRounds = 40;
  int wrong = 0, found = 0;
  for (seed = 0; seed < 20; ++seed) {
    const std::string a = program("old", {{"rows", rowsWith(1, 0.03, 0.015)}});
    const Comparison c = compared(a, program("new", {{"rows", rowsWith(1.12, 0.03, 0.015)}}));
    found += c.rows[0].verdict == Verdict::Regressed;
    for (size_t i = 1; i < c.rows.size(); ++i)
      wrong += c.rows[i].verdict == Verdict::Regressed || c.rows[i].verdict == Verdict::Improved;
  }
  EXPECT_LE(wrong, 1);
  EXPECT_GE(found, 18);
}

TEST_F(LiveCompare, StagesThatDisagreeDecideNothing) {
  Json now = rowsWith(1);
  now[0]["starts"] = {0.9, 0.9, 0.9, 0.9, 1.1, 1.1, 1.1, 1.1,
                      1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1};
  const Comparison c =
      compared(program("old", {{"rows", rowsWith(1)}}), program("new", {{"rows", now}}));
  EXPECT_EQ(c.rows[0].verdict, Verdict::Inconclusive);
  EXPECT_THAT(c.rows[0].why, HasSubstr("but the first stage's ratio was 0."));
  EXPECT_GT(c.rows[0].interval->low, 1.03);
  EXPECT_EQ(c.verdict, Verdict::Same);
}

TEST_F(LiveCompare, IntervalsKnowOfProcesses) {
  Json now = rowsWith(1, 0.0001, 0);
  now[0]["starts"] = {0.98, 0.99, 1.01, 1.02};
  const Comparison c =
      compared(program("old", {{"rows", rowsWith(1, 0.0001, 0)}}), program("new", {{"rows", now}}));
  EXPECT_EQ(c.rows[0].verdict, Verdict::Same);
  EXPECT_LT(c.rows[0].interval->low, 0.985); // of single rounds: from 0.99 to 1.01
  EXPECT_GT(c.rows[0].interval->high, 1.015);
}

TEST_F(LiveCompare, ResultsAndRowsThatDiffer) {
  Json old = rowsWith(1), now = rowsWith(1);
  now[1]["accuracy"] = {{"pass", false}, {"l2_rel", 0.5}};
  now[2] = {{"name", now[2]["name"]}, {"status", "compile_error"}, {"error", "no such op"}};
  now.erase(5);
  now.push_back({{"name", "g"}, {"status", "ok"}});
  const Comparison c = compared(program("old", {{"rows", old}}), program("new", {{"rows", now}}));
  EXPECT_EQ(c.verdict, Verdict::Regressed);
  ASSERT_EQ(c.rows.size(), 5u);
  EXPECT_EQ(c.rows.back().verdict, Verdict::Inconclusive);
  EXPECT_EQ(c.rows.back().why, "A is ok, B is compile_error: no such op");
  ASSERT_EQ(c.fidelityChanged.size(), 2u);
  EXPECT_EQ(c.fidelityChanged[1].what, "was ok, is compile_error: no such op");
  EXPECT_THAT(c.onlyA, ElementsAre("f/(m=1)"));
  EXPECT_THAT(c.onlyB, ElementsAre("g"));
}

TEST_F(LiveCompare, WorkersThatFail) {
  const std::string good = program("good", {{"rows", rowsWith(1)}});
  auto faulty = [&](const char *fault, const char *at, int after) {
    return errorOf(
        good,
        program("bad", {{"rows", rowsWith(1)}, {"fault", fault}, {"at", at}, {"after", after}}));
  };
  const std::string bad = (folder / "bad").string();
  EXPECT_THAT(faulty("die", "open", 0), HasSubstr("suite worker " + bad + " died"));
  EXPECT_THAT(faulty("die", "measure", 7), HasSubstr("killed by signal 6"));
  EXPECT_THAT(faulty("garbage", "open", 0), HasSubstr("suite worker " + bad + " is not usable"));
  EXPECT_THAT(faulty("garbage", "measure", 3), HasSubstr("not valid JSON"));
  EXPECT_THAT(faulty("protocol", "open", 0), HasSubstr("it speaks protocol 2, not 1"));
  EXPECT_THAT(faulty("error", "measure", 1),
              HasSubstr("row cannot be run (" + bad + ", row a): it is not here; leave it out"));
  const auto start = std::chrono::steady_clock::now();
  options.answerSeconds = 0.2;
  EXPECT_THAT(faulty("hang", "measure", 2), HasSubstr("did not answer in 0.2 s"));
  options.openSeconds = 0.2;
  EXPECT_THAT(faulty("hang", "open", 0), HasSubstr("did not answer in 0.2 s"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15));
  EXPECT_THAT(errorOf(good, "/nowhere/kernelforge"), HasSubstr("cannot be started"));
}

TEST_F(LiveCompare, WithoutRowsOrInterrupted) {
  const std::string good = program("good", {{"rows", rowsWith(1)}});
  options.filter = "nothing";
  EXPECT_THAT(errorOf(good, good), HasSubstr("no row of the suite is in both"));
  options.filter = "^[ab]/";
  EXPECT_EQ(compared(good, good).rows.size(), 2u);
  const std::atomic<bool> cancel{true};
  options.cancel = &cancel;
  Expected<Comparison> stopped = compareLive(good, good, options);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().kind, ErrorKind::Interrupted);
}

} // namespace
