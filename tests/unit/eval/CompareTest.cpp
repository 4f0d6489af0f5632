#include "kernelforge/eval/Compare.h"

#include "Reports.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

Report parsed(const Json &json, const char *where) {
  Expected<Report> report = parseReport(json.dump(), where);
  EXPECT_TRUE(report) << report.error().line();
  return std::move(*report);
}

Expected<Comparison> compare(const Json &a, const Json &b, const CompareOptions &options = {}) {
  return compareReports(parsed(a, "a.json"), parsed(b, "b.json"), options);
}

Comparison compared(const Json &a, const Json &b, const CompareOptions &options = {}) {
  Expected<Comparison> comparison = compare(a, b, options);
  EXPECT_TRUE(comparison) << comparison.error().line();
  return comparison ? std::move(*comparison) : Comparison{};
}

/// Ten rows like others; the first takes `factor` times as long.
std::vector<MadeRow> rowsWith(double factor) {
  std::vector<MadeRow> rows{{"changed", 20e3 * factor}};
  for (int i = 0; i < 9; ++i)
    rows.push_back({"row" + std::to_string(i), 20e3 * (i + 1)});
  return rows;
}

TEST(Compare, Rule) {
  auto verdict = [](double low, double high, double p) {
    return judge({low, high}, p, 0.07, 0.05);
  };
  EXPECT_EQ(verdict(1.08, 1.2, 0.01), Verdict::Regressed);
  EXPECT_EQ(verdict(1.08, 1.2, 0.06), Verdict::Inconclusive); // chance does as much
  EXPECT_EQ(verdict(1.06, 1.2, 0.01), Verdict::Inconclusive);
  EXPECT_EQ(verdict(0.8, 0.93, 0.01), Verdict::Improved);
  EXPECT_EQ(verdict(0.8, 0.93, 0.06), Verdict::Inconclusive);
  EXPECT_EQ(verdict(0.8, 0.94, 0.01), Verdict::Inconclusive); // 1 / 1.07 is 0.9346
  EXPECT_EQ(verdict(0.94, 1.06, 0.001), Verdict::Same);
  EXPECT_EQ(verdict(0.9, 1.06, 1), Verdict::Inconclusive);
  EXPECT_THAT(reasonFor(Verdict::Inconclusive, {1.08, 1.2}, 0.06, 0.07),
              HasSubstr("chance does as much (p 0.06)"));
  EXPECT_THAT(reasonFor(Verdict::Inconclusive, {1.06, 1.2}, 0.01, 0.07), HasSubstr("holds 1.070"));
}

TEST(Compare, SameRunsAreTheSame) {
  const Comparison c = compared(madeReport(rowsWith(1), 1), madeReport(rowsWith(1), 2));
  EXPECT_EQ(c.verdict, Verdict::Same);
  for (const RowComparison &row : c.rows) {
    EXPECT_EQ(row.verdict, Verdict::Same) << row.name << ": " << row.why;
    EXPECT_FALSE(row.samplesNeeded);
  }
  EXPECT_NEAR(*c.geomeanRatio, 1, 0.01);
  EXPECT_TRUE(c.fidelityChanged.empty() && c.onlyA.empty() && c.onlyB.empty());
}

TEST(Compare, FindsWhatChanged) {
  const Json old = madeReport(rowsWith(1), 1);
  const Comparison slower = compared(old, madeReport(rowsWith(1.2), 2));
  EXPECT_EQ(slower.verdict, Verdict::Regressed);
  EXPECT_EQ(slower.rows[0].verdict, Verdict::Regressed) << slower.rows[0].why;
  EXPECT_NEAR(*slower.rows[0].ratio, 1.2, 0.02);
  EXPECT_GT(slower.rows[0].interval->low, 1.07);
  EXPECT_LT(*slower.rows[0].pAdjusted, 0.05);
  EXPECT_GE(*slower.rows[0].pAdjusted, *slower.rows[0].p);
  EXPECT_EQ(std::ranges::count(slower.rows, Verdict::Same, &RowComparison::verdict), 9);

  const Comparison faster = compared(old, madeReport(rowsWith(1 / 1.2), 2));
  EXPECT_EQ(faster.verdict, Verdict::Improved);
  EXPECT_EQ(faster.rows[0].verdict, Verdict::Improved);
  // A difference that is sure and small is none.
  const Comparison little = compared(old, madeReport(rowsWith(1.03), 2));
  EXPECT_EQ(little.rows[0].verdict, Verdict::Same) << little.rows[0].why;
  EXPECT_LT(*little.rows[0].pAdjusted, 0.05);
  CompareOptions strict;
  strict.threshold = 0.015;
  EXPECT_EQ(compared(old, madeReport(rowsWith(1.03), 2), strict).rows[0].verdict,
            Verdict::Regressed);
}

TEST(Compare, AnchorsTakeTheMachineOut) {
  std::vector<MadeRow> rows = rowsWith(1);
  for (MadeRow &row : rows)
    row.anchor = 93; // 7 % slower, and so are the rows
  const Json old = madeReport(rowsWith(1), 1);
  const Comparison c = compared(old, madeReport(rows, 2));
  EXPECT_EQ(c.verdict, Verdict::Same);
  EXPECT_GT(*c.rows[0].bMedianNs, 1.03 * *c.rows[0].aMedianNs);
  EXPECT_NEAR(*c.rows[0].ratio, 1, 0.02);
  // Beyond 10 % the machine is another.
  for (MadeRow &row : rows)
    row.anchor = 85;
  const Comparison other = compared(old, madeReport(rows, 2));
  EXPECT_EQ(other.verdict, Verdict::Inconclusive);
  EXPECT_EQ(other.rows[0].verdict, Verdict::Inconclusive);
  EXPECT_THAT(other.rows[0].why, HasSubstr("fma_f32 differs by more than 10 %"));
  EXPECT_FALSE(other.rows[0].p);
  EXPECT_FALSE(other.geomeanRatio);
}

TEST(Compare, WhoSharedACoreIsTakenOut) {
  // Rows take 1.1 times as long beside someone else, who was there more often when B was measured.
  auto made = [](int share, uint64_t seed) {
    std::vector<MadeRow> rows = rowsWith(1);
    for (MadeRow &row : rows) {
      row.samples = 40;
      const Json plain = madeRow(row, seed);
      row.more = {{"samples_ns", Json::array()}, {"machine_samples", Json::array()}};
      for (size_t i = 0; i < 40; ++i) {
        const bool shared = int(i * 7 % 10) < share;
        row.more["samples_ns"].push_back(plain["samples_ns"][i].get<double>() * (shared ? 1.1 : 1));
        row.more["machine_samples"].push_back({{"fma_f32", 200},
                                               {"exchange", 30},
                                               {"write_first", shared ? 80 : 118},
                                               {"write_slowest", shared ? 75 : 110}});
      }
    }
    return madeReport(rows, seed);
  };
  const Comparison c = compared(made(4, 1), made(9, 2));
  EXPECT_EQ(c.verdict, Verdict::Same);
  EXPECT_GT(*c.rows[0].bMedianNs, 1.03 * *c.rows[0].aMedianNs);
  EXPECT_NEAR(*c.rows[0].ratio, 1, 0.025);
  const Json exponents = toJson(c)["rows"][0]["machine_exponents"];
  EXPECT_GT(exponents["write_first"].get<double>() + exponents["write_slowest"].get<double>(),
            0.15);
  EXPECT_GT(exponents["anchor"], 0.8);
}

TEST(Compare, WhatCannotBeJudged) {
  std::vector<MadeRow> rows = rowsWith(1.5);
  rows[0].more = {{"trusted", false}};
  rows[1].samples = 3;
  rows[2].more = {{"anchor", "read_l2"}};
  rows[3].samples = 0;
  const Comparison c = compared(madeReport(rowsWith(1), 1), madeReport(rows, 2));
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(c.rows[static_cast<size_t>(i)].verdict, Verdict::Inconclusive);
  EXPECT_EQ(c.rows[0].why, "B is not trusted");
  EXPECT_EQ(c.rows[1].why, "it has 3 samples, 6 are needed");
  EXPECT_EQ(c.rows[1].samplesNeeded, 6u);
  EXPECT_THAT(c.rows[2].why, HasSubstr("other anchors judge it: fma_f32 and read_l2"));
  EXPECT_FALSE(c.rows[2].ratio);
  EXPECT_FALSE(c.rows[3].ratio);
  EXPECT_TRUE(c.rows[3].aMedianNs && !c.rows[3].bMedianNs);
  EXPECT_TRUE(toJson(c)["rows"][3]["b_median_ns"].is_null());
  EXPECT_EQ(c.verdict, Verdict::Same); // six of ten are
}

TEST(Compare, SaysWhichSideIsNotTrusted) {
  std::vector<MadeRow> a = rowsWith(1), b = rowsWith(1);
  a[0].more = b[0].more = a[1].more = b[2].more = {{"trusted", false}};
  const Comparison c = compared(madeReport(a, 1), madeReport(b, 2));
  EXPECT_EQ(c.rows[0].why, "neither side is trusted");
  EXPECT_EQ(c.rows[1].why, "A is not trusted");
  EXPECT_EQ(c.rows[2].why, "B is not trusted");
}

TEST(Compare, NoiseIsInconclusiveAndSaysWhatItTakes) {
  std::vector<MadeRow> rows = rowsWith(1);
  for (MadeRow &row : rows)
    row.noise = 0.15;
  const Comparison c = compared(madeReport(rows, 1), madeReport(rows, 2));
  EXPECT_EQ(c.verdict, Verdict::Inconclusive);
  const auto noisy = std::ranges::find(c.rows, Verdict::Inconclusive, &RowComparison::verdict);
  ASSERT_NE(noisy, c.rows.end());
  EXPECT_THAT(noisy->why, HasSubstr("the interval holds"));
  ASSERT_TRUE(noisy->samplesNeeded);
  EXPECT_GT(*noisy->samplesNeeded, 20u);
}

TEST(Compare, ShortCallsDifferFromProcessToProcess) {
  auto verdictOf = [](double ns, double factor) {
    std::vector<MadeRow> before = rowsWith(1), now = rowsWith(1);
    before[0].ns = ns;
    now[0].ns = ns * factor;
    return compared(madeReport(before, 1), madeReport(now, 2)).rows[0].verdict;
  };
  EXPECT_EQ(verdictOf(20e3, 1.09), Verdict::Regressed);
  EXPECT_EQ(verdictOf(5e3, 1.09), Verdict::Inconclusive);
  EXPECT_EQ(verdictOf(5e3, 1 / 1.09), Verdict::Inconclusive);
  EXPECT_EQ(verdictOf(5e3, 1), Verdict::Same);
  EXPECT_EQ(verdictOf(5e3, 1.15), Verdict::Regressed);
  // 4 ns more are 3 % of 130 ns, and 0.4 % of 1 us.
  EXPECT_EQ(verdictOf(130, 1.15), Verdict::Inconclusive);
  EXPECT_EQ(verdictOf(130, 1.3), Verdict::Regressed);
  EXPECT_EQ(verdictOf(999, 1.16), Verdict::Regressed);
}

TEST(Compare, CorrectedRatiosAreCalledSo) {
  // B ran on a machine of 1.08 times the speed: all of its times are shorter by that.
  std::vector<MadeRow> rows = rowsWith(1);
  for (MadeRow &row : rows)
    row.anchor = 108;
  Json faster = madeReport(rows, 2);
  faster["host"]["cpu"] = "Faster CPU";
  CompareOptions force;
  force.force = true;
  const Comparison c = compared(madeReport(rowsWith(1), 1), faster, force);
  EXPECT_TRUE(isCorrected(c));
  EXPECT_NEAR(*c.geomeanRatio, 1, 0.02);
  EXPECT_NEAR(*c.geomeanMeasured, 1 / 1.08, 0.02);
  const Json json = toJson(c);
  EXPECT_NEAR(json["geomean_measured_ratio"], *c.geomeanMeasured, 1e-12);
  for (const Json &row : json["rows"]) {
    EXPECT_EQ(row["corrected"], true);
    EXPECT_NEAR(row["ratio"], 1, 0.03);
    EXPECT_NEAR(row["measured_ratio"].get<double>(),
                row["b_median_ns"].get<double>() / row["a_median_ns"].get<double>(), 1e-12);
  }
  // Without anything that was taken out, the ratio is what was measured.
  Comparison live = c;
  for (RowComparison &row : live.rows)
    row.exponents.reset();
  EXPECT_FALSE(isCorrected(live));
  EXPECT_EQ(toJson(live)["rows"][0]["corrected"], false);
}

TEST(Compare, RowsInBothAreAskedForBeforeAnything) {
  const Report a = parsed(madeReport(rowsWith(1), 1), "a.json");
  const Report b = parsed(madeReport({{"other"}}, 1), "b.json");
  EXPECT_TRUE(checkComparable(a, a));
  for (bool force : {false, true}) {
    const Status refused = checkComparable(a, b, force);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().line(), HasSubstr("no row is in both"));
  }
}

TEST(Compare, FalseRowsOfUnchangedRuns) {
  // 1.4 % from run to run in 40 comparisons of 20 rows, 1 % within a run.
  int wrong = 0, inconclusive = 0, found = 0;
  for (uint64_t run = 0; run < 40; ++run) {
    std::vector<MadeRow> rows[2];
    for (size_t side = 0; side < 2; ++side)
      for (uint64_t i = 0; i < 20; ++i) {
        const double moved = std::exp(0.01 * madeNormal(1000 * run + side, i));
        rows[side].push_back({"row" + std::to_string(i), 20e3 * moved, 0.01});
      }
    rows[1][0].ns *= 1.2;
    const Comparison c = compared(madeReport(rows[0], 2 * run), madeReport(rows[1], 2 * run + 1));
    found += c.rows[0].verdict == Verdict::Regressed;
    for (size_t i = 1; i < c.rows.size(); ++i)
      wrong += c.rows[i].verdict == Verdict::Regressed || c.rows[i].verdict == Verdict::Improved;
    inconclusive += c.verdict == Verdict::Inconclusive;
  }
  EXPECT_LE(wrong, 1);
  EXPECT_GE(found, 36);
  EXPECT_LE(inconclusive, 4);
}

TEST(Compare, RefusesWhatIsNotAlike) {
  const Json a = madeReport(rowsWith(1), 1);
  Json b = madeReport(rowsWith(1), 2);
  b["host"]["memory_bytes"] = (int64_t(16) << 30) - (int64_t(500) << 20); // 3 %: alike
  EXPECT_TRUE(compare(a, b));
  b["host"] = {{"cpu", "Other CPU"}, {"cores_used", 4}, {"memory_bytes", int64_t(8) << 30}};
  b["suite"] = "transformer";
  b["settings"] = {{"threads", 4}, {"mode", "cold"}, {"suite_hash", "11ff"}};
  b["device"]["target"] = "cuda";
  Expected<Comparison> refused = compare(a, b);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::Unusable);
  EXPECT_THAT(
      refused.error().line(),
      AllOf(HasSubstr("reports cannot be compared (a.json, b.json): host.cpu is Test CPU and "
                      "Other CPU; host.cores_used is 2 and 4; host.memory_bytes is 17179869184 "
                      "and 8589934592; suite is smoke and transformer"),
            HasSubstr("settings.suite_hash is 00ff and 11ff; settings.threads is 2 and 4; "
                      "settings.mode is warm and cold; device.target is cpu and cuda"),
            HasSubstr("--force")));
  // Each setting that makes times others is a difference by itself.
  const std::pair<const char *, Json> changes[] = {
      {"/settings/affinity", "none"}, {"/settings/batch_s", 0.1}, {"/settings/timed", false},
      {"/settings/records", false},   {"/device/cpu", "avx2"},    {"/device/features", "-avx512f"}};
  for (const auto &[field, value] : changes) {
    Json other = madeReport(rowsWith(1), 2);
    other[Json::json_pointer(field)] = value;
    Expected<Comparison> one = compare(a, other);
    ASSERT_FALSE(one) << field;
    const std::string name = Json::json_pointer(field).back();
    EXPECT_THAT(one.error().line(), HasSubstr("." + name + " is "));
  }
  // Another device, or another driver; reports of before do not say which.
  Json gpu = madeReport(rowsWith(1), 1), same = madeReport(rowsWith(1), 2);
  for (Json *report : {&gpu, &same})
    (*report)["device"].update({{"name", "GPU"}, {"driver", "1.2"}});
  EXPECT_TRUE(compare(gpu, same));
  EXPECT_TRUE(compare(a, same));
  for (const char *field : {"/device/name", "/device/driver"}) {
    Json other = same;
    other[Json::json_pointer(field)] = "another";
    Expected<Comparison> one = compare(gpu, other);
    ASSERT_FALSE(one) << field;
    EXPECT_THAT(one.error().line(), HasSubstr("and another"));
  }
  CompareOptions force;
  force.force = true;
  const Comparison c = compared(a, b, force);
  EXPECT_EQ(c.differences.size(), 8u);
  EXPECT_EQ(toJson(c)["differences"].size(), 8u);
  // Without a row in common there is nothing to force.
  b["rows"] = madeReport({{"other"}}, 1)["rows"];
  Expected<Comparison> empty = compare(a, b, force);
  ASSERT_FALSE(empty);
  EXPECT_THAT(empty.error().line(), HasSubstr("no row is in both"));
}

TEST(Compare, ResultsThatChanged) {
  std::vector<MadeRow> before = rowsWith(1), now = rowsWith(1);
  now[0].more = {{"accuracy", {{"pass", true}, {"l2_rel", 3e-6}}}}; // 30 times
  now[1].more = {{"accuracy", {{"pass", true}, {"l2_rel", 9e-7}}}}; // rounding
  before[2].more = {{"accuracy", {{"pass", true}, {"l2_rel", 2e-3}}}};
  now[2].more = {{"accuracy", {{"pass", true}, {"l2_rel", 3.9e-3}}}}; // not double
  before[3].more = {{"accuracy", {{"pass", false}, {"l2_rel", 1}}}};  // mended
  before[4].more = {{"status", "crash"}};
  Comparison c = compared(madeReport(before, 1), madeReport(now, 2));
  ASSERT_EQ(c.fidelityChanged.size(), 3u);
  EXPECT_EQ(c.fidelityChanged[0].what, "l2_rel was 1e-07, is 3e-06");
  EXPECT_THAT(c.fidelityChanged[1].what, HasSubstr("accuracy failed and passes"));
  EXPECT_EQ(c.fidelityChanged[2].what, "was crash, is ok");
  EXPECT_EQ(c.verdict, Verdict::Same); // none broke
  ASSERT_EQ(c.rows.size(), 10u);
  EXPECT_EQ(c.rows.back().name, before[4].name);
  EXPECT_EQ(c.rows.back().why, "A is crash, B is ok");
  // What is the same failure on both sides is no change, and not silent either.
  now[4].more = {{"status", "crash"}};
  c = compared(madeReport(before, 1), madeReport(now, 2));
  EXPECT_EQ(c.fidelityChanged.size(), 2u);
  EXPECT_EQ(c.rows.back().verdict, Verdict::Inconclusive);
  EXPECT_EQ(c.rows.back().why, "both are crash");

  now[5].more = {{"accuracy", {{"pass", false}, {"l2_rel", 1}}}};
  EXPECT_EQ(compared(madeReport(before, 1), madeReport(now, 2)).verdict, Verdict::Regressed);
  now[5].more = {{"status", "wrong_result"}, {"error", "worst at 3"}};
  c = compared(madeReport(before, 1), madeReport(now, 2));
  EXPECT_EQ(c.verdict, Verdict::Regressed);
  EXPECT_EQ(c.fidelityChanged.back().what, "was ok, is wrong_result: worst at 3");
  EXPECT_TRUE(c.fidelityChanged.back().broken);
}

TEST(Compare, RowsOfOneSideOnly) {
  std::vector<MadeRow> before = rowsWith(1), now = rowsWith(1);
  before.push_back({"gone"});
  now.push_back({"new"});
  const Comparison c = compared(madeReport(before, 1), madeReport(now, 2));
  EXPECT_THAT(c.onlyA, ElementsAre("gone"));
  EXPECT_THAT(c.onlyB, ElementsAre("new"));
  EXPECT_EQ(c.rows.size(), 10u);
}

TEST(Compare, Json) {
  std::vector<MadeRow> rows = rowsWith(1.3);
  rows[1].more = {{"anchor", "read_l2"}};
  const kernelforge::Json json = toJson(compared(madeReport(rowsWith(1), 1), madeReport(rows, 2)));
  EXPECT_EQ(json["kind"], "stored");
  EXPECT_EQ(json["a"]["run_id"], "0123456789abcdef");
  EXPECT_EQ(json["threshold"], 0.07);
  EXPECT_EQ(json["verdict"], "regressed");
  const auto &row = json["rows"][0];
  EXPECT_EQ(row["verdict"], "regressed");
  EXPECT_EQ(row["samples"], 11);
  EXPECT_LT(row["ci95"][0].get<double>(), row["ratio"].get<double>());
  EXPECT_GT(row["ci95"][1].get<double>(), row["ratio"].get<double>());
  EXPECT_TRUE(row["samples_needed"].is_null());
  for (const char *field : {"ratio", "ci95", "p_value", "p_adjusted"})
    EXPECT_TRUE(json["rows"][1][field].is_null()) << field;
}

} // namespace
