// The report of a suite: what was measured, where, how, and what came out, as one JSON file that is
// whole at any time.
#pragma once

#include "kernelforge/eval/SuiteRounds.h"

namespace kernelforge {

/// What identifies the program and the machine, as reports have it.
Json buildJson();
Json hostJson(const SessionOptions &session);

/// How a report was measured. Gone on with is only one where all of it agrees; compared are also
/// reports of other rounds, seeds and filters.
struct ReportSettings {
  int rounds = usualRounds;
  uint64_t seed = 0;
  std::string filter;
  std::string target; ///< with features, as answers name it
};

class SuiteReport {
public:
  /// A report that begins now.
  SuiteReport(const SuiteRunner &runner, const ReportSettings &settings);

  /// A partial report that is to be gone on with keeps its id and date. Unusable, naming the fields
  /// that differ, where it is of another suite, machine, build or other settings, or complete.
  Status resume(const JsonView &report);

  /// All of it. `partial` where `rounds` are not complete.
  Json toJson(const SuiteRounds &rounds) const;

private:
  Json header; ///< everything but anchors and rows
};

} // namespace kernelforge
