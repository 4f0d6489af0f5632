// A `kernelforge suite-worker` of any build as the process that compares it sees it: opened with a
// suite, asked for samples, one at a time.
#pragma once

#include "kernelforge/eval/Report.h"
#include "kernelforge/support/ChildProcess.h"

namespace kernelforge {

/// Version of what they say to each other.
inline constexpr int64_t suiteProtocol = 1;

struct SuiteWorkerOptions {
  Json suite;         ///< the suite's document
  std::string folder; ///< where files that it names are
  std::string filter;
  int threads = 1;
  uint64_t seed = 0;
  double batchSeconds = 0.01;
  bool verify = true;         ///< whether rows are also verified; otherwise they are only run
  double openSeconds = 1200;  ///< to compile, verify and warm up all rows
  double answerSeconds = 120; ///< for a sample
};

class SuiteWorkerProcess {
public:
  /// Starts `binary suite-worker` and opens the suite. Threads of the worker sleep a millisecond
  /// after a sample, so that they do not spin on the cores of another worker. Unusable where it
  /// speaks another protocol; Failed where it dies, does not answer in time or answers what the
  /// protocol does not know; its own error where it answers with one.
  static Expected<SuiteWorkerProcess> open(const std::string &binary,
                                           const SuiteWorkerOptions &options);

  /// The rows, in the order of the worker, with name, status, error and accuracy.
  const std::vector<ReportRow> &rows() const { return list; }
  const std::string &gitCommit() const { return commit; }

  /// A sample of the row with that index: nanoseconds of one call. Errors as those of open().
  Expected<double> measure(size_t row);

private:
  SuiteWorkerProcess(ChildProcess process, std::string binary, double answerSeconds)
      : process(std::move(process)), binary(std::move(binary)), answerSeconds(answerSeconds) {}
  Expected<JsonDocument> ask(const Json &command, double seconds);

  ChildProcess process;
  std::string binary;
  double answerSeconds;
  std::string commit;
  std::vector<ReportRow> list;
};

} // namespace kernelforge
