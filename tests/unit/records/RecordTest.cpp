#include "Records.h"

#include <gmock/gmock.h>
#include <limits>

using namespace kernelforge;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

std::string lineOf(const Record &record) {
  Expected<std::string> line = recordLine(record);
  EXPECT_TRUE(line) << line.error().line();
  return line.value_or("");
}

/// The record of a JSON value; the checksum is left to other tests.
Expected<Record> fromJson(const Json &json) {
  Expected<JsonDocument> document = parseJson(json.dump(), "record", "test");
  EXPECT_TRUE(document);
  return recordFromJson(document->root());
}

TEST(Record, ReadsBackWhatWasWritten) {
  Record record = fullRecord();
  record.software = true;
  Expected<Record> back = recordFromLine(lineOf(record), "test");
  ASSERT_TRUE(back) << back.error().line();
  EXPECT_EQ(toJson(*back), toJson(record));
  // Not only by the writer's word: each field.
  EXPECT_TRUE(back->key == record.key);
  EXPECT_EQ(back->name, record.name);
  EXPECT_EQ(back->variant, record.variant);
  EXPECT_EQ(back->schedule, record.schedule);
  EXPECT_EQ(back->scheduleSource, record.scheduleSource);
  EXPECT_EQ(back->status, record.status);
  EXPECT_EQ(back->error, record.error);
  EXPECT_EQ(back->mode, record.mode);
  EXPECT_EQ(back->samplesNs, record.samplesNs);
  EXPECT_EQ(back->medianNs, record.medianNs);
  EXPECT_EQ(back->madNs, record.madNs);
  EXPECT_EQ(back->baseline, record.baseline);
  EXPECT_EQ(back->baselineNs, record.baselineNs);
  EXPECT_EQ(back->ratio, record.ratio);
  EXPECT_EQ(back->gflops, record.gflops);
  EXPECT_EQ(back->gbPerS, record.gbPerS);
  EXPECT_EQ(back->pctOfCeiling, record.pctOfCeiling);
  EXPECT_EQ(back->bound, record.bound);
  EXPECT_EQ(back->vendorRatio, record.vendorRatio);
  EXPECT_EQ(back->software, record.software);
  EXPECT_EQ(back->trusted, record.trusted);
  EXPECT_EQ(back->accuracy, record.accuracy);
  EXPECT_EQ(back->codeHash, record.codeHash);
  EXPECT_EQ(back->resources, record.resources);
  EXPECT_EQ(back->compileMs, record.compileMs);
  EXPECT_EQ(back->predictedNs, record.predictedNs);
  EXPECT_EQ(back->strategy, record.strategy);
  EXPECT_EQ(back->seed, record.seed);
  EXPECT_EQ(back->trial, record.trial);
  EXPECT_EQ(back->created, record.created);
  EXPECT_EQ(back->orderClass, record.orderClass);
  EXPECT_EQ(back->inputs, record.inputs);
}

TEST(Record, NeedsLittle) {
  Record record;
  record.key.family = "rowwise";
  record.status = RecordStatus::Crash;
  Expected<Record> back = recordFromLine(lineOf(record), "test");
  ASSERT_TRUE(back) << back.error().line();
  EXPECT_EQ(back->status, RecordStatus::Crash);
  EXPECT_FALSE(back->accuracy);
  EXPECT_FALSE(back->medianNs);
  EXPECT_TRUE(back->samplesNs.empty());
}

TEST(Record, HasTheNamesOfTheContract) {
  Json json = toJson(fullRecord());
  for (const char *field : {"name",
                            "family",
                            "problem",
                            "target",
                            "variant",
                            "schedule",
                            "schedule_source",
                            "status",
                            "samples_ns",
                            "median_ns",
                            "mad_ns",
                            "mode",
                            "trusted",
                            "gflops",
                            "gb_per_s",
                            "pct_roofline",
                            "bound",
                            "vendor_ratio",
                            "accuracy",
                            "resources",
                            "code_hash",
                            "compile_ms",
                            "kernel_hash",
                            "threads",
                            "toolchain",
                            "strategy",
                            "seed",
                            "trial"})
    EXPECT_TRUE(json.contains(field)) << field;
  EXPECT_EQ(json["status"], "ok");
  EXPECT_EQ(json["problem"]["k"], 576);
  EXPECT_EQ(json["schedule"]["mr"], 6);
  EXPECT_EQ(json["accuracy"]["cosine_diff"], -1e-17);
  EXPECT_EQ(json["resources"]["spill_bytes"], 64);
}

TEST(Record, LeavesOutWhatADeviceDoesNotSayOfItsCode) {
  Record record = fullRecord();
  record.resources = {40, -1, -1, 512};
  record.software = false;
  const Json json = toJson(record);
  EXPECT_EQ(json["resources"], (Json{{"registers", 40}, {"code_bytes", 512}}));
  EXPECT_FALSE(json.contains("software"));
  Expected<Record> back = recordFromLine(lineOf(record), "test");
  ASSERT_TRUE(back) << back.error().line();
  EXPECT_EQ(back->resources, record.resources);
  EXPECT_FALSE(back->software);
}

TEST(Record, EveryStatusHasAName) {
  for (std::string_view name :
       {"ok", "unsupported", "unavailable", "compile_error", "timeout", "crash", "wrong_result"}) {
    std::optional<RecordStatus> status = statusFromName(name);
    ASSERT_TRUE(status) << name;
    EXPECT_EQ(statusName(*status), name);
  }
  EXPECT_FALSE(statusFromName("fine"));
}

/// A value of another type than `value`.
Json otherType(const Json &value) { return value.is_string() ? Json(7) : Json("text"); }

void expectErrorAt(const Json &json, const std::string &field) {
  Expected<Record> record = fromJson(json);
  ASSERT_FALSE(record) << field << " is not checked";
  EXPECT_EQ(record.error().kind, ErrorKind::Unusable);
  EXPECT_THAT(record.error().where, HasSubstr("field " + field));
}

TEST(Record, WrongTypeOfAnyFieldIsAnErrorThatNamesIt) {
  Record software = fullRecord();
  software.software = true;
  const Json good = toJson(software);
  ASSERT_TRUE(fromJson(good));
  for (const auto &[field, value] : good.items()) {
    Json bad = good;
    bad[field] = otherType(value);
    expectErrorAt(bad, field);
    bad[field] = value.is_array() ? Json::object() : Json::array();
    expectErrorAt(bad, field);
  }
  for (const char *object : {"accuracy", "resources"})
    for (const auto &[field, value] : good[object].items()) {
      Json bad = good;
      bad[object][field] = otherType(value);
      expectErrorAt(bad, std::string(object) + "." + field);
    }
  for (const char *array : {"samples_ns", "baseline_ns"}) {
    Json bad = good;
    bad[array][1] = "fast";
    expectErrorAt(bad, std::string(array) + "[1]");
  }
}

TEST(Record, OutOfRangeIsAnErrorThatNamesTheField) {
  auto expectBad = [](const char *field, const Json &value) {
    Json bad = toJson(fullRecord());
    bad[field] = value;
    expectErrorAt(bad, field);
  };
  expectBad("schema_version", 2);
  expectBad("status", "fine");
  expectBad("threads", 0);
  expectBad("threads", 1.5);
  expectBad("samples_ns", {0});
  expectBad("samples_ns", {-1});
  expectBad("samples_ns", std::vector<int>(10'001, 1));
  expectBad("median_ns", 0);
  expectBad("ratio", 0);
  expectBad("gflops", -1);
  expectBad("name", std::string(2000, 'x'));
  expectBad("schedule", {{"x", std::string(20'000, 'x')}});
  expectBad("key", "0123456789abcdef"); // not the id of the fields
}

TEST(Record, MissingFieldOfTheKeyIsAnError) {
  for (const char *field :
       {"schema_version", "key", "family", "kernel_hash", "problem", "target", "cpu_model",
        "toolchain", "threads", "affinity", "variant", "schedule", "status"}) {
    Json bad = toJson(fullRecord());
    bad.erase(field);
    expectErrorAt(bad, field);
  }
}

TEST(Record, UnknownFieldsAreIgnored) {
  Json json = toJson(fullRecord());
  json["new_field"] = {{"a", 1}};
  Expected<Record> record = fromJson(json);
  ASSERT_TRUE(record) << record.error().line();
  EXPECT_EQ(toJson(*record), toJson(fullRecord()));
}

TEST(Record, WhatCannotBeReadIsNotWritten) {
  auto expectRefused = [](const Record &record, const char *field) {
    Expected<std::string> line = recordLine(record);
    ASSERT_FALSE(line) << field;
    EXPECT_THAT(line.error().where, HasSubstr(std::string("field ") + field));
  };
  Record record = fullRecord();
  record.samplesNs[2] = std::numeric_limits<double>::quiet_NaN();
  expectRefused(record, "samples_ns[2]");
  record = fullRecord();
  record.gflops = std::numeric_limits<double>::infinity();
  expectRefused(record, "gflops");
  record = fullRecord();
  record.key.problem = "[1]";
  expectRefused(record, "problem");
  record = fullRecord();
  record.schedule = "{";
  expectRefused(record, "schedule");
  record = fullRecord();
  record.name = "\xff";
  expectRefused(record, "name");
}

TEST(Record, ErrorTextMayBeAnyBytes) {
  Record record = fullRecord();
  for (const std::string &text :
       {std::string(10'000, '\xff'), std::string("\0\x1b[31m\n", 7),
        std::string(4095, 'a') + "\xc3\xa9", std::string(4094, 'a') + "\xf0\x9f\x98\x80"}) {
    record.error = text;
    Expected<Record> back = recordFromLine(lineOf(record), "test");
    ASSERT_TRUE(back) << back.error().line();
    EXPECT_LE(back->error.size(), 4096u);
    EXPECT_GE(back->error.size(), std::min<size_t>(text.size(), 4090));
  }
}

TEST(Record, IsOneLine) {
  std::string line = lineOf(fullRecord());
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_LT(line.size(), 4096u);
}

TEST(Record, ChecksumFindsEveryBitFlip) {
  const std::string line = lineOf(fullRecord());
  ASSERT_TRUE(isWholeRecordLine(line));
  for (size_t at = 0; at < line.size(); ++at)
    for (int bit : {0, 5}) {
      std::string bad = line;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      EXPECT_FALSE(isWholeRecordLine(bad)) << at;
      EXPECT_FALSE(recordFromLine(bad, "test")) << at;
    }
}

TEST(Record, ChecksumFindsSplices) {
  const std::string a = lineOf(recordOf(1)), b = lineOf(recordOf(2));
  for (size_t at = 1; at < a.size(); ++at) {
    EXPECT_FALSE(isWholeRecordLine(a.substr(0, at))) << at;
    EXPECT_FALSE(isWholeRecordLine(a.substr(at))) << at;
    EXPECT_FALSE(isWholeRecordLine(a.substr(0, at) + b)) << at;
  }
  EXPECT_FALSE(isWholeRecordLine(a + b));
  // Same length, another trial: the head of one, the tail with the checksum of the other.
  ASSERT_EQ(a.size(), b.size());
  EXPECT_FALSE(isWholeRecordLine(a.substr(0, a.size() - 18) + b.substr(b.size() - 18)));
}

TEST(Record, RightChecksumIsNoPass) {
  EXPECT_FALSE(recordFromLine("", "test"));
  EXPECT_FALSE(recordFromLine("\"}", "test"));
  EXPECT_FALSE(recordFromLine("{}", "test"));
}

TEST(RecordKey, IdLooksThroughSpacesAndOrder) {
  RecordKey a = fullRecord().key, b = a;
  b.problem = R"({ "weights":"q4_1", "m":1, "n":1536, "k":576, "dtype":"f32" })";
  EXPECT_EQ(a.id(), b.id());
  EXPECT_TRUE(a == b);
  EXPECT_EQ(a.id().size(), 16u);
  // Stored keys must be found again by later versions.
  EXPECT_EQ(a.id(), "9816ad6e76cc03dc");
}

TEST(RecordKey, EveryFieldCounts) {
  const RecordKey key = fullRecord().key;
  auto expectDifferent = [&](auto change, const std::string &line) {
    RecordKey other = key;
    change(other);
    EXPECT_NE(other.id(), key.id()) << line;
    EXPECT_FALSE(other == key) << line;
    EXPECT_THAT(keyDifferences(key, other), ElementsAre(line));
  };
  expectDifferent([](RecordKey &k) { k.family = "x"; }, "family: matmul here, x in the record");
  expectDifferent([](RecordKey &k) { k.kernelHash = "x"; },
                  "kernel_hash: 0123abcd here, x in the record");
  expectDifferent([](RecordKey &k) { k.problem = R"({"m":2})"; },
                  "problem: " + key.problem + R"( here, {"m":2} in the record)");
  expectDifferent([](RecordKey &k) { k.target = "x"; },
                  "target: " + key.target + " here, x in the record");
  expectDifferent([](RecordKey &k) { k.cpuModel = "x"; },
                  "cpu_model: " + key.cpuModel + " here, x in the record");
  expectDifferent([](RecordKey &k) { k.toolchain = "20"; },
                  "toolchain: 19.1.7 here, 20 in the record");
  expectDifferent([](RecordKey &k) { k.threads = 4; }, "threads: 2 here, 4 in the record");
  expectDifferent([](RecordKey &k) { k.affinity = "x"; }, "affinity: cores here, x in the record");
  EXPECT_TRUE(keyDifferences(key, key).empty());
}

TEST(RecordTime, IsIso) {
  EXPECT_THAT(recordTimeNow(), testing::MatchesRegex("20..-..-..T..:..:..Z"));
}

} // namespace
