// What llm-bench measured, as rows: its own, and those of llama-bench, whose names stand in csv,
// jsonl and sql where they mean something here.
#pragma once

#include "LanguageModel.h"

#include <cstdint>
#include <string>
#include <vector>

namespace kernelforge::cli {

/// A prompt of `prompt` tokens at once, then `generate` tokens one by one, timed together.
struct BenchTest {
  int64_t prompt = 0;
  int64_t generate = 0;
  int64_t depth = 0; ///< tokens in the cache before the measured ones

  int64_t tokens() const { return prompt + generate; }
  /// "pp512", "tg128", "pp512+tg128", behind a depth "pp512@d4096".
  std::string name() const;
};

struct BenchRow {
  BenchTest test;
  std::string time;                 ///< when it began, "2026-11-30T12:00:00Z"
  std::vector<int64_t> nanoseconds; ///< of each repetition

  /// Tokens per second of each repetition.
  std::vector<double> rates() const;
};

/// The time of now as BenchRow::time has it.
std::string timeOfNow();

/// Prints rows of one model: `format` is table, md, csv, jsonl or sql, or with --json all of them
/// are one object.
void printBenchRows(const std::vector<BenchRow> &rows, const LoadedModel &model,
                    int64_t prefillChunk, const std::string &format, const Context &context);

} // namespace kernelforge::cli
