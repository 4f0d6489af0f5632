#include "kernelforge/eval/RooflineSvg.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <regex>

using namespace kernelforge;
using testing::HasSubstr;
using testing::Not;

namespace {

Json row(const std::string &name, double flops, double bytes, double ns, bool trusted = true) {
  return {{"name", name},       {"family", "matmul"},   {"status", "ok"},
          {"flops", flops},     {"bytes", bytes},       {"median_ns", ns},
          {"trusted", trusted}, {"gflops", flops / ns}, {"pct_roofline", 50.0}};
}

Json reportOf(Json rows) {
  Json round{{"values", {{"fma_f32", 200.0}, {"read_memory", 20.0}, {"exchange", 3.0}}}};
  return {{"suite", "own"},
          {"created", "2026-01-02T03:04:05Z"},
          {"device", {{"name", "a processor"}}},
          {"settings", {{"threads", 2}}},
          {"rows", std::move(rows)},
          {"anchors",
           {{"units", {{"fma_f32", "GFLOP/s"}, {"read_memory", "GB/s"}, {"exchange", "M/s"}}},
            {"per_round", {round, round}}}}};
}

/// Where the mark with a title stands, and whether it is filled.
struct Mark {
  double x, y;
  bool filled;
};
Mark markOf(const std::string &svg, const std::string &name) {
  const std::regex mark(
      "translate\\(([-0-9.]+) ([-0-9.]+)\\)\" d=\"[^\"]*\" fill=\"(#[0-9a-f]+)\"[^>]*"
      "><title>" +
      name + ":");
  std::smatch found;
  EXPECT_TRUE(std::regex_search(svg, found, mark)) << name;
  return {std::stod(found[1]), std::stod(found[2]), found[3] != "#ffffff"};
}

TEST(RooflineSvg, PointsStandWhereIntensityAndSpeedSay) {
  // Intensities 1, 10, 100 and 10, 100, 1000 GFLOP/s: equal steps on both axes.
  const std::string svg = rooflineSvg(
      reportOf({row("a", 1e6, 1e6, 1e5), row("b", 1e7, 1e6, 1e5), row("c", 1e8, 1e6, 1e5, false)}));
  const Mark a = markOf(svg, "a"), b = markOf(svg, "b"), c = markOf(svg, "c");
  EXPECT_GT(b.x, a.x + 50);
  EXPECT_LT(b.y, a.y - 50);
  EXPECT_NEAR(b.x - a.x, c.x - b.x, 0.2);
  EXPECT_NEAR(b.y - a.y, c.y - b.y, 0.2);
  EXPECT_TRUE(a.filled && b.filled);
  EXPECT_FALSE(c.filled) << "it is not trusted";
}

TEST(RooflineSvg, CeilingsMeetWhereReadingAndComputingTakeAsLong) {
  // 20 GB/s reach 200 GFLOP/s at 10 FLOP a byte: there stands a row that reaches both.
  const std::string svg = rooflineSvg(reportOf(Json::array({row("corner", 2e7, 2e6, 1e5)})));
  EXPECT_THAT(svg, HasSubstr("fma_f32 200 GFLOP/s"));
  EXPECT_THAT(svg, HasSubstr("read_memory 20 GB/s"));
  EXPECT_THAT(svg, Not(HasSubstr("exchange"))) << "it bounds no kernel";
  const Mark corner = markOf(svg, "corner");
  const std::regex line("d=\"M([-0-9.]+) ([-0-9.]+)L([-0-9.]+) ([-0-9.]+)\" stroke=\"#6b7280\"");
  int lines = 0;
  for (std::sregex_iterator found(svg.begin(), svg.end(), line), end; found != end;
       ++found, ++lines) {
    const bool isLevel = (*found)[2] == (*found)[4];
    EXPECT_NEAR(std::stod((*found)[isLevel ? 1 : 3]), corner.x, 0.2);
    EXPECT_NEAR(std::stod((*found)[isLevel ? 2 : 4]), corner.y, 0.2);
  }
  EXPECT_EQ(lines, 2);
}

TEST(RooflineSvg, RowsWithoutFiguresAreLeftOut) {
  Json wrong = row("wrong", 1e6, 1e6, 1e5), untimed = row("untimed", 1e6, 1e6, 1e5);
  wrong["status"] = "wrong_result";
  untimed.erase("median_ns");
  const std::string svg =
      rooflineSvg(reportOf({row("a", 1e6, 1e6, 1e5), wrong, untimed, row("moves", 0, 1e6, 1e5)}));
  EXPECT_THAT(svg, HasSubstr("Roofline: kernels 1<"));
  EXPECT_THAT(rooflineSvg(reportOf(Json::array())), HasSubstr("Roofline: kernels 0<"));
}

TEST(RooflineSvg, NoTextOfAReportBecomesMarkup) {
  const std::string svg = rooflineSvg(
      reportOf(Json::array({row("</title><script>alert(1)</script>&\"\x01", 1e6, 1e6, 1e5)})));
  EXPECT_THAT(svg, Not(HasSubstr("<script>")));
  EXPECT_THAT(svg, HasSubstr("&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;:"));
}

} // namespace
