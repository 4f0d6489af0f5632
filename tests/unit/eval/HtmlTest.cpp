#include "kernelforge/eval/Html.h"

#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <iterator>
#include <regex>

using namespace kernelforge;
using testing::HasSubstr;
using testing::Not;

namespace {

const std::string dataBegin = "<script type=\"application/json\" id=\"report-data\">";

/// What a browser takes for the report: from the element's begin to the first end tag.
std::string dataOf(const std::string &page) {
  size_t begin = page.find(dataBegin);
  EXPECT_NE(begin, std::string::npos);
  begin += dataBegin.size();
  return page.substr(begin, page.find("</script", begin) - begin);
}

Json reportNamed(const std::string &name) {
  return {{"suite", "smoke"}, {"rows", {{{"name", name}, {"status", "ok"}, {"median_ns", 12.5}}}}};
}

TEST(Html, HoldsTheReport) {
  Json report = reportNamed("smollm2/q_proj/m1");
  report["comparison"] = {{"kind", "stored"}, {"verdict", "same"}};
  EXPECT_EQ(Json::parse(dataOf(htmlReport(report))), report);
}

TEST(Html, NoTextOfAReportBecomesMarkup) {
  for (std::string name :
       {"</script><script>alert(1)</script>", "<!--<script>", "<img src=x onerror=alert(1)>",
        "{{scripts}}{{policy}}", "\u2028 \\ \" ' & \u0001 \U0001f4a9"}) {
    std::string data = dataOf(htmlReport(reportNamed(name)));
    EXPECT_THAT(data, Not(HasSubstr("<"))) << name;
    EXPECT_EQ(Json::parse(data), reportNamed(name));
  }
}

TEST(Html, BytesThatAreNoTextAreReplaced) {
  Json report = reportNamed("a\xff\xfe");
  EXPECT_EQ(Json::parse(dataOf(htmlReport(report))), reportNamed("a\ufffd\ufffd"));
}

TEST(Html, TakesAnyValue) {
  for (Json report : {Json(nullptr), Json::array(), Json(1.5), Json{{"rows", "none"}}})
    EXPECT_EQ(Json::parse(dataOf(htmlReport(report))), report);
  Json infinite{{"rows", {{{"median_ns", std::numeric_limits<double>::infinity()}}}}};
  EXPECT_TRUE(Json::parse(dataOf(htmlReport(infinite)))["rows"][0]["median_ns"].is_null());
}

TEST(Html, RefersToNothingOutside) {
  std::string page = htmlReport(reportNamed("a"));
  // The name by which a browser knows SVG is an address, and never asked for.
  page = std::regex_replace(page, std::regex("\"http://www\\.w3\\.org/2000/svg\""), "");
  // Comments at the head of the library name its makers.
  for (size_t at; (at = page.find("/*!")) != std::string::npos;)
    page.erase(at, page.find("*/", at) + 2 - at);
  EXPECT_THAT(page, Not(HasSubstr("http://")));
  EXPECT_THAT(page, Not(HasSubstr("https://")));
  EXPECT_THAT(page, Not(HasSubstr(" src=")));
  EXPECT_THAT(page, Not(HasSubstr("<link")));
  EXPECT_THAT(page, Not(HasSubstr("@import")));
  EXPECT_THAT(page, Not(HasSubstr("innerHTML")));
  EXPECT_THAT(page, Not(HasSubstr("{{")));
}

// A wrong hash would leave the page blank: the browser test sees that. This one needs no browser.
TEST(Html, ThePolicyNamesItsScriptsAndNothingElse) {
  std::string page = htmlReport(reportNamed("a"));
  size_t begin = page.find("content=\"default-src 'none';");
  ASSERT_NE(begin, std::string::npos);
  std::string policy = page.substr(begin, page.find("\">", begin) - begin);
  EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
  size_t hashes = 0, scripts = 0;
  for (size_t at = policy.find("script-src");
       (at = policy.find("'sha256-", at + 1)) != policy.npos;)
    ++hashes;
  for (size_t at = 0; (at = page.find("<script>", at + 1)) != page.npos;)
    ++scripts;
  EXPECT_EQ(hashes, scripts);
  EXPECT_GE(scripts, 2u);
  std::regex source("'sha256-[A-Za-z0-9+/]{43}='");
  EXPECT_TRUE(std::regex_search(policy, source));
}

TEST(Html, IsWrittenAsAFile) {
  std::filesystem::path file = testing::TempDir() + "kernelforge-report.html";
  ASSERT_TRUE(writeHtmlReport(file, reportNamed("a")));
  std::ifstream in(file, std::ios::binary);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), htmlReport(reportNamed("a")));
  std::filesystem::remove(file);
  EXPECT_FALSE(writeHtmlReport(file / "below" / "nothing.html", reportNamed("a")));
}

} // namespace
