// Made reports for the tests of what reads them.
#pragma once

#include "kernelforge/eval/Report.h"
#include "kernelforge/support/CounterRandom.h"

#include <cmath>
#include <numbers>

namespace kernelforge {

/// What a made row is like.
struct MadeRow {
  std::string name;
  double ns = 20e3;
  double noise = 0.005; ///< deviation of the logarithm of a sample
  double anchor = 100;  ///< the machine's speed; times are `ns` where it is 100
  int samples = 11;
  Json more = {}; ///< fields that replace others
};

/// A normally distributed number for a seed and a counter.
inline double madeNormal(uint64_t seed, uint64_t counter) {
  return std::sqrt(-2 * std::log(1 - randomUniform(seed, 2 * counter))) *
         std::cos(2 * std::numbers::pi * randomUniform(seed, 2 * counter + 1));
}

inline Json madeRow(const MadeRow &row, uint64_t seed) {
  Json json = {{"name", row.name},
               {"family", "matmul"},
               {"status", "ok"},
               {"trusted", true},
               {"anchor", "fma_f32"},
               {"samples_ns", Json::array()},
               {"anchor_samples", Json::array()},
               {"accuracy", {{"pass", true}, {"l2_rel", 1e-7}}}};
  for (int i = 0; i < row.samples; ++i) {
    // The machine drifts by more than the row's noise.
    const double speed = row.anchor * (1 + 0.03 * std::sin(i));
    const double noise = row.noise * madeNormal(seed, static_cast<uint64_t>(i));
    json["samples_ns"].push_back(row.ns * std::exp(noise) * 100 / speed);
    json["anchor_samples"].push_back(speed);
  }
  json.update(row.more.is_null() ? Json::object() : row.more);
  return json;
}

inline Json madeReport(const std::vector<MadeRow> &rows, uint64_t seed) {
  Json json = {
      {"schema_version", 1},
      {"run_id", "0123456789abcdef"},
      {"created", "2026-01-31T12:00:00Z"},
      {"suite", "smoke"},
      {"partial", false},
      {"kernelforge", {{"version", "0.1.0"}, {"git_commit", "abc"}}},
      {"host", {{"cpu", "Test CPU"}, {"cores_used", 2}, {"memory_bytes", int64_t(16) << 30}}},
      {"device", {{"target", "cpu"}}},
      {"settings", {{"threads", 2}, {"mode", "warm"}, {"suite_hash", "00ff"}}},
      {"rows", Json::array()}};
  for (size_t i = 0; i < rows.size(); ++i)
    json["rows"].push_back(madeRow(rows[i], mixBits(seed) + i));
  return json;
}

} // namespace kernelforge
