// A suite measured in rounds, as a report: every row once a round, in an order of its own, beside
// the machine's ceilings of the same moment.
#pragma once

#include "kernelforge/eval/SuiteRunner.h"

#include <functional>

namespace kernelforge {

/// One sample: nanoseconds of a call in a round, and what the row's anchor was beside it.
struct RoundSample {
  int round = 0;
  double ns = 0;
  double anchor = 0;
};

/// Samples of a row and of the vendors' variants of it, over the rounds so far.
struct RowSamples {
  std::vector<RoundSample> own;
  std::vector<std::vector<double>> vendors; ///< as RowRun::vendors(); one a round
};

struct RoundsOptions {
  int rounds = 11;
  uint64_t seed = 0;
  /// Called with what is about to be done.
  std::function<void(const std::string &what, int64_t done, int64_t total)> progress = {};
  /// Called when something is worth keeping: after the rows were prepared, and after each round.
  std::function<Status()> checkpoint = {};
};

/// Prepares and measures a suite, or goes on with one whose first rounds were measured before.
class SuiteRounds {
public:
  SuiteRounds(SuiteRunner &runner, RoundsOptions options);

  /// Takes up a partial report: its samples, ceilings and number of rounds. Unusable where it does
  /// not fit the suite.
  Status resume(const JsonView &report);

  /// Prepares all rows, measures the rounds that are left and verifies all rows again. Interrupted
  /// leaves what was measured.
  Status run();

  /// Whether a report of what there is now says all that is known: not while the rows of one that
  /// was taken up are prepared.
  bool isWhole() const { return prepared || roundsDone == 0; }
  bool isComplete() const { return complete; }
  int rounds() const { return roundsDone; }
  /// Rows that are wrong or did not compile.
  int wrongRows() const;

  /// "anchors" and "rows" of a report.
  Json anchorsJson() const;
  Json rowsJson() const;

private:
  Status prepareAll();
  Status measureRound(int round);
  Json anchorsNow();
  Json rowJson(size_t row) const;
  void addTimes(Json &json, size_t row) const;
  void addVendors(Json &json, size_t row, double median) const;
  double usual(const std::string &anchor) const;
  bool isOff(const RoundSample &sample, const std::string &anchor) const;

  SuiteRunner &runner;
  RoundsOptions options;
  std::vector<RowSamples> samples;                         ///< by row
  std::map<std::string, std::vector<double>> anchorValues; ///< all that were measured, by name
  Json before, after, perRound = Json::array();
  int roundsDone = 0;
  bool prepared = false;
  bool complete = false;
};

} // namespace kernelforge
