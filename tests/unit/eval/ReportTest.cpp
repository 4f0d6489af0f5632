#include "Reports.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

std::string refusal(const Json &json) {
  Expected<Report> report = parseReport(json.dump(), "r.json");
  if (report)
    return "accepted";
  EXPECT_EQ(report.error().kind, ErrorKind::Unusable);
  return report.error().line();
}

Json sound() { return madeReport({{"a"}, {"b"}}, 1); }

TEST(Report, IsReadAndKeptWhole) {
  Json json = sound();
  json["anything"] = {1, 2};
  Expected<Report> report = parseReport(json.dump(), "r.json");
  ASSERT_TRUE(report) << report.error().line();
  EXPECT_EQ(report->document, json);
  EXPECT_EQ(report->where, "r.json");
  EXPECT_EQ(report->runId, "0123456789abcdef");
  EXPECT_EQ(report->suiteHash, "00ff");
  EXPECT_EQ(report->cores, 2);
  ASSERT_EQ(report->rows.size(), 2u);
  const ReportRow &row = report->rows[0];
  EXPECT_TRUE(row.ok() && row.trusted && row.accuracy && row.accuracy->pass);
  EXPECT_EQ(row.samples.size(), 11u);
  EXPECT_EQ(row.anchorSamples[3], json["rows"][0]["anchor_samples"][3]);
}

TEST(Report, OfAnotherVersion) {
  Json json = sound();
  json["schema_version"] = 2;
  EXPECT_THAT(refusal(json), HasSubstr("report is not usable (r.json): its schema version is 2, 1 "
                                       "is read; compare it with the version"));
  json.erase("schema_version");
  EXPECT_THAT(refusal(json), HasSubstr("schema_version"));
}

TEST(Report, NamesTheFieldThatIsWrong) {
  const std::vector<std::pair<const char *, const char *>> cases = {
      {R"([{"op":"replace","path":"/host/cpu","value":7}])", "host.cpu"},
      {R"([{"op":"remove","path":"/settings/threads"}])", "threads"},
      {R"([{"op":"replace","path":"/rows/1/name","value":"a"}])", "\"a\" is there twice"},
      {R"([{"op":"replace","path":"/rows/1/name","value":""}])", "rows[1]"},
      {R"([{"op":"replace","path":"/rows/0/samples_ns/2","value":-1}])", "rows[0].samples_ns[2]"},
      {R"([{"op":"replace","path":"/rows/0/samples_ns/2","value":"fast"}])", "samples_ns[2]"},
      {R"([{"op":"replace","path":"/rows/0/anchor_samples/0","value":0}])", "anchor_samples[0]"},
      {R"([{"op":"remove","path":"/rows/0/anchor_samples/0"}])", "11 samples have 10"},
      {R"([{"op":"add","path":"/rows/0/machine_samples","value":[{"fma_f32":1,"exchange":1}]}])",
       "11 samples have 1 of the machine"},
      {R"([{"op":"remove","path":"/rows/0/trusted"}])", "trusted"},
      {R"([{"op":"remove","path":"/rows/0/accuracy/pass"}])", "rows[0].accuracy"},
      {R"([{"op":"replace","path":"/rows","value":{}}])", "rows"},
  };
  for (const auto &[patch, named] : cases) {
    SCOPED_TRACE(patch);
    EXPECT_THAT(refusal(sound().patch(Json::parse(patch))), HasSubstr(named));
  }
  EXPECT_THAT(refusal(Json::array()), HasSubstr("r.json"));
}

TEST(Report, RowsThatFailedNeedNoTimes) {
  Json json = sound();
  json["rows"][0] = {{"name", "a"}, {"status", "crash"}, {"error", "killed by signal 11"}};
  Expected<Report> report = parseReport(json.dump(), "r.json");
  ASSERT_TRUE(report) << report.error().line();
  EXPECT_FALSE(report->rows[0].ok());
  EXPECT_EQ(report->rows[0].error, "killed by signal 11");
}

} // namespace
