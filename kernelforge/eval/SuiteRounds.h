// A suite measured in rounds, as a report: every row once a round, in an order of its own, beside
// the machine's ceilings of the same moment.
#pragma once

#include "kernelforge/eval/RoundSamples.h"
#include "kernelforge/eval/SuiteRunner.h"

#include <functional>

namespace kernelforge {

/// Rounds of a report where nobody says how many.
inline constexpr int usualRounds = 15;
/// As much longer may a report take where nobody says: half.
inline constexpr double usualPatience = 0.5;

struct RoundsOptions {
  /// Rounds of all rows. Rows of which a sample was taken while the machine was not itself, or too
  /// few (half of the rounds, or enoughAlone) while no core was shared (isAlone), get further ones
  /// as long as there is patience.
  int rounds = usualRounds;
  uint64_t seed = 0;
  /// How long to wait for the machine to be itself, and to make up for samples that do not count,
  /// as a multiple of what the rounds should take.
  double patience = usualPatience;
  /// Called with what is about to be done.
  std::function<void(const std::string &what, int64_t done, int64_t total)> progress = {};
  /// Called when something is worth keeping: before the rows are prepared (so that a file that
  /// cannot be written shows at once), after that, and after each round.
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
  /// Rows that are not ok: wrong, or they did not compile or run.
  int failedRows() const;

  /// What the machine was like when nothing disturbed it, by what was measured.
  MachineState usualMachine() const;

  /// "anchors" and "rows" of a report.
  Json anchorsJson() const;
  Json rowsJson() const;

private:
  Status prepareAll();
  Status measureRound(int round);
  Status measureRow(size_t row, int round);
  Status measureVendors(std::span<const size_t> rows);
  Status measureRounds();
  Status keep() const;
  SampleLack lackOf(size_t row) const {
    return lacking(samples[row].own, usualMachine(), options.rounds);
  }
  void keepWriting(const MachineState &machine);
  double plannedSeconds() const;
  bool isPatient() const;
  Status goesOn() const;
  Json anchorsNow();
  double anchorNow(const std::string &name);
  Expected<MachineState> awaitUsual(bool alone);
  Json rowJson(size_t row) const;
  void addTimes(Json &json, size_t row) const;
  void addVendors(Json &json, size_t row, std::span<const double> own,
                  std::span<const int> rounds) const;
  double usual(const std::string &anchor) const;

  SuiteRunner &runner;
  RoundsOptions options;
  std::vector<RowSamples> samples;                         ///< by row
  std::map<std::string, std::vector<double>> anchorValues; ///< all that were measured, by name
  Json before, after, perRound = Json::array();
  int roundsDone = 0;
  std::vector<double> writingFirst, writingSlowest; ///< beside all samples
  double spare = 0; ///< seconds that were spent on waiting and making up
  bool prepared = false;
  bool complete = false;
};

} // namespace kernelforge
