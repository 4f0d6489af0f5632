// The report of an evaluation, as a file that someone else may have written: read, checked, and
// kept whole. What it holds is in docs/evaluation.md.
#pragma once

#include "kernelforge/eval/RoundSamples.h"
#include "kernelforge/support/Json.h"

#include <optional>
#include <string>
#include <vector>

namespace kernelforge {

inline constexpr int64_t reportSchemaVersion = 1;

/// What decides whether a row's results are as good as another's.
struct RowAccuracy {
  bool pass = false;
  double l2Rel = 0; ///< Euclidean distance from the reference, relative
};

/// One row, as far as comparing needs it.
struct ReportRow {
  std::string name;
  std::string status; ///< "ok" or what went wrong
  std::string error;  ///< empty where ok
  bool trusted = false;
  std::vector<double> samples;              ///< nanoseconds of one call, one a kept round
  std::string anchor;                       ///< the ceiling of the machine that judges this row
  std::vector<double> anchorSamples;        ///< its value in each of those rounds
  double roofline = 0.5;                    ///< the share of its time that the ceilings account for
  std::vector<MachineState> machineSamples; ///< what it was like in each of them; or none
  double medianNs = 0;
  std::optional<RowAccuracy> accuracy;

  bool ok() const { return status == "ok"; }
};

struct Report {
  std::string where; ///< the file
  Json document;     ///< all of it
  std::string runId, created, gitCommit;
  std::string suite, suiteHash;
  std::string target, targetCpu, features, mode;
  std::string deviceName, driver; ///< empty where the report does not say, or there is none
  std::string affinity;           ///< of threads; empty where the report does not say
  bool timed = true, records = true;
  double batchSeconds = 0;
  int64_t threads = 0;
  std::string cpu; ///< of the machine
  int64_t cores = 0, memoryBytes = 0;
  bool partial = false;
  std::vector<ReportRow> rows;
};

/// Reads the `accuracy` of a row; nothing where it has none.
Expected<std::optional<RowAccuracy>> readAccuracy(const JsonView &row);

/// Parses a report. Unusable, naming the file and the field, where it is of another schema version
/// or not well-formed: rows that are ok have as many anchor samples as samples, all of them
/// positive, and no name is there twice.
Expected<Report> parseReport(std::string_view text, std::string_view where);

/// The same from a file.
Expected<Report> readReport(const std::string &path);

} // namespace kernelforge
