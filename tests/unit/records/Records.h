// Records to test with, and a folder that goes away.
#pragma once

#include "kernelforge/records/Record.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <string>

namespace kernelforge {

/// A record with every field set.
inline Record fullRecord() {
  Record record;
  record.key = {"matmul",
                "0123abcd",
                R"({"dtype":"f32","k":576,"m":1,"n":1536,"weights":"q4_1"})",
                "x86_64-unknown-linux-gnu znver4 +avx512f",
                "AuthenticAMD family 25 model 17 stepping 1, AMD EPYC 9R14",
                "19.1.7",
                2,
                "cores"};
  record.name = "decode.ffn_down";
  record.variant = "generated";
  record.schedule = R"({"mr":6,"nr":64})";
  record.scheduleSource = "pinned";
  record.status = RecordStatus::Ok;
  record.error = "line\nbreak \"quoted\" \xc3\xa9";
  record.mode = "cold";
  record.samplesNs = {1000.25, 1100, 900.125};
  record.medianNs = 1000.25;
  record.madNs = 99.75;
  record.baseline = "blocked";
  record.baselineNs = {2000, 2200, 1800};
  record.ratio = 0.5;
  record.gflops = 1.0 / 3;
  record.gbPerS = 12.5;
  record.pctOfCeiling = 81.5;
  record.bound = "memory";
  record.vendorRatio = 0.9;
  record.trusted = true;
  record.whyUntrusted = "what disturbed it";
  record.accuracy = RecordAccuracy{"f64", 1e-6, 2e-6, 3e-7, -1e-17, 0, 0, 1e-4, true};
  record.codeHash = "feed";
  record.resources = {28, 64, 0, 4096};
  record.compileMs = 12.25;
  record.predictedNs = 950;
  record.strategy = "evolutionary";
  record.seed = -5;
  record.trial = 17;
  record.created = "2026-01-31T12:00:00Z";
  record.orderClass = "k-serial";
  record.inputs = "uniform[-1,1)";
  return record;
}

/// A record told apart by its trial.
inline Record recordOf(int64_t trial) {
  Record record = fullRecord();
  record.trial = trial;
  return record;
}

/// A test with a folder of its own.
class FolderTest : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "kernelforge-records-XXXXXX").string();
    ASSERT_TRUE(mkdtemp(pattern.data()));
    folder = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  static std::string read(const std::filesystem::path &file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static void write(const std::filesystem::path &file, const std::string &bytes) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
  }

  std::filesystem::path folder;
};

} // namespace kernelforge
