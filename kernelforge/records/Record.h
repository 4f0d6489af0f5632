// One measured candidate, as evidence: what was measured, where, how, and what came out. Records
// outlive the program that wrote them and travel between machines, so a text read back is checked
// like any other input.
#pragma once

#include "kernelforge/support/Json.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// The format of a record. Raise it when a field changes its meaning; a new field needs no new
/// number, readers ignore what they do not know.
inline constexpr int64_t recordSchemaVersion = 1;

/// The longest line that is read or written. A record of 10 rounds takes about 2 KB.
inline constexpr uint64_t maxRecordBytes = 1 << 20;

/// What a measurement belongs to: measurements of equal keys may be compared, others may not. The
/// build of the compiler is left out: see Record::codeHash.
struct RecordKey {
  std::string family;         ///< "matmul", "attention", "rowwise"
  std::string kernelHash;     ///< the kernel's identity without its schedule
  std::string problem = "{}"; ///< JSON object: sizes or their bucket, types, layouts
  std::string target;         ///< triple, CPU and features that code is generated for
  std::string cpuModel;  ///< what ran it: DeviceInfo::identity(), of a processor Host::cpuModel
  std::string toolchain; ///< LLVM's version
  int threads = 1;
  std::string affinity; ///< how threads were bound to cores

  /// All fields as canonical JSON: equal texts are equal keys.
  std::string text() const;

  /// Short stable name of the key: 16 hexadecimal digits. Good for finding; compare keys to be
  /// sure.
  std::string id() const;

  /// Equal but for how the JSON of `problem` is spaced and ordered.
  bool operator==(const RecordKey &other) const { return text() == other.text(); }
};

/// One line for each field in which two keys differ: "cpu_model: X here, Y in the record".
std::vector<std::string> keyDifferences(const RecordKey &here, const RecordKey &record);

/// What became of a candidate.
enum class RecordStatus { Ok, Unsupported, Unavailable, CompileError, Timeout, Crash, WrongResult };

/// "ok", "unsupported", "unavailable", "compile_error", "timeout", "crash", "wrong_result".
std::string_view statusName(RecordStatus status);
std::optional<RecordStatus> statusFromName(std::string_view name);
std::vector<std::string> allStatusNames();

/// Distances of a result from its reference; the fields of measure's Accuracy.
struct RecordAccuracy {
  std::string reference; ///< "f64"
  double maxAbs = 0;
  double maxRel = 0;
  double l2Rel = 0;
  double cosineDiff = 0;
  int64_t nan = 0;
  int64_t poisonedLeft = 0;
  double tolerance = 0;
  bool pass = false;

  bool operator==(const RecordAccuracy &) const = default;
};

/// What the code takes up; -1 where it is not known.
struct RecordResources {
  int64_t registers = -1;   ///< of a thread
  int64_t spillBytes = -1;  ///< of a thread, or of a CPU kernel's stack frame
  int64_t sharedBytes = -1; ///< of a block
  int64_t codeBytes = 0;

  bool operator==(const RecordResources &) const = default;
};

/// One measured candidate. Texts are UTF-8; only `error` may be any bytes.
struct Record {
  RecordKey key;
  std::string name;                       ///< of the kernel, for people
  std::string variant = "generated";      ///< "generated", "blocked", "vendor:openblas", ...
  std::string schedule = "{}";            ///< canonical JSON object
  std::string scheduleSource;             ///< "analytic" marks the analytic default
  RecordStatus status = RecordStatus::Ok; ///< where not Ok, nothing below need be there
  std::string error;                      ///< why; cut to 4,096 bytes when written

  std::string mode = "warm";          ///< "warm" or "cold"
  std::vector<double> samplesNs;      ///< one a round, nanoseconds of one call
  std::optional<double> medianNs;     ///< of samplesNs
  std::optional<double> madNs;        ///< of samplesNs: median absolute deviation
  std::string baseline;               ///< what it was measured beside; empty: nothing
  std::vector<double> baselineNs;     ///< of the same rounds, interleaved with samplesNs
  std::optional<double> ratio;        ///< median over rounds of candidate / baseline
  std::optional<double> gflops;       ///< 1e9 operations a second
  std::optional<double> gbPerS;       ///< 1e9 bytes a second
  std::optional<double> pctOfCeiling; ///< of the machine's ceiling for this kernel
  std::string bound;                  ///< that ceiling: "compute" or "memory"
  std::optional<double> vendorRatio;  ///< time / the vendor library's beside it
  bool software = false;              ///< timed on a device that the processor emulates
  bool trusted = true;                ///< false where the measurement was disturbed
  std::string whyUntrusted;           ///< by what, for people; empty in records of before
  std::optional<RecordAccuracy> accuracy;

  std::string codeHash; ///< of the code that was timed: if the schedule gives other code now, the
                        ///< record still proposes, but is stale
  RecordResources resources;
  std::optional<double> compileMs;
  std::optional<double> predictedNs; ///< by the analytic model

  /// What it takes to run it again: a module with the kernel as text, and as a JSON object the
  /// sizes of the run, what stood in the caches before, and the seed of the inputs.
  std::string kernel;
  std::string run = "{}";
  std::string outputBits; ///< hash of the outputs for the first inputs

  std::string strategy; ///< of the search that tried it
  int64_t seed = 0;
  int64_t trial = 0;
  std::string created;    ///< "2026-01-31T12:00:00Z"
  std::string orderClass; ///< the order of sums: equal classes give equal bits
  std::string inputs;     ///< distribution of the inputs, e.g. "uniform[-1,1)"
};

/// As a measurement row has them; what is not known is left out.
Json toJson(const RecordResources &resources);

/// The record as an object: the fields of a measurement row, those of the key, `key` (its id) and
/// `schema_version`; what is not there is left out.
Json toJson(const Record &record);

/// What toJson made. Unusable, naming the field, where one is missing, of the wrong type or out of
/// range, where the version is another, or where `key` is not the id of the key's fields. Fields
/// that are not known are ignored.
Expected<Record> recordFromJson(const JsonView &json);

/// The record as one line, without its line break: toJson's text with a last field `checksum` over
/// everything before it. Unusable where recordFromLine would refuse it (a number that is not
/// finite, a problem that is no JSON object, ...) or read something else: nothing is written that
/// cannot be read.
Expected<std::string> recordLine(const Record &record);

/// Whether a line ends in the right checksum: it is a whole line that some version of this program
/// wrote, never a piece of one or two glued together.
bool isWholeRecordLine(std::string_view line);

/// The record of a line that recordLine made. `where` is the file. Unusable as for recordFromJson
/// and where the checksum is wrong.
Expected<Record> recordFromLine(std::string_view line, std::string_view where);

/// This moment as `created` has it, in UTC.
std::string recordTimeNow();

} // namespace kernelforge
