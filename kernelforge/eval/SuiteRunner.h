// The rows of a suite, ready to be timed one sample at a time, with the machine's own ceilings
// beside them. Who decides which sample is next and what becomes of it is above: a report's rounds,
// or a process that compares two builds.
#pragma once

#include "kernelforge/eval/DeviceAnchors.h"
#include "kernelforge/eval/RowRun.h"
#include "kernelforge/measure/Anchors.h"
#include "kernelforge/measure/CacheEviction.h"
#include "kernelforge/measure/Timing.h"
#include "kernelforge/records/Record.h"
#include "kernelforge/support/Team.h"

#include <chrono>
#include <map>

namespace kernelforge {

struct SuiteOptions {
  RowOptions rows;
  bool cold = false; ///< a sample is one call after the caches were emptied
  int warmup = 3;
  double batchSeconds = 0.01;
  bool timed = true;    ///< false: rows are only verified
  bool bitwise = false; ///< whether two runs must also give equal bits
  /// For tests: rows by name whose calls are made to take so many times as long.
  std::map<std::string, double> slow;
  const std::atomic<bool> *cancel = nullptr; ///< where true: Interrupted
};

/// A row and what is known of it before it is timed.
struct PreparedRow {
  const SuiteRow *row = nullptr;
  bool ready = false; ///< whether it was prepared: before, nothing is known of it
  RecordStatus status = RecordStatus::Ok;
  std::string error; ///< why the status is not Ok
  std::optional<Accuracy> accuracy;
  std::string anchor;        ///< the ceiling that the row is judged by
  std::string arithmetic;    ///< that of its arithmetic
  bool isBoundKnown = false; ///< whether it is known what bounds it: arithmetic, or that ceiling
  bool computeBound = false;
  std::unique_ptr<RowRun> run; ///< null where it did not come up
  std::optional<TimedCall> timed;
  std::vector<std::optional<TimedCall>> vendors; ///< as RowRun::vendors(); empty: not timed

  bool isOk() const { return status == RecordStatus::Ok; }
};

/// The machine beside a sample. Who shares a core comes and goes within milliseconds.
struct Beside {
  Writing writing;
  double anchor = 0;       ///< of the row
  int64_t preemptions = 0; ///< how often a thread had to leave its core
};

class SuiteRunner {
public:
  /// Failed where memory for the ceilings cannot be had, Missing where the target's device is not
  /// here. Keeps the suite.
  static Expected<std::unique_ptr<SuiteRunner>> create(Suite suite, SuiteOptions options);

  /// Compiles, verifies and warms up a row. What goes wrong is its status; the only error is
  /// Interrupted.
  Status prepare(size_t row);

  /// A sample of a row that is ok, or of a vendor's variant of it: nanoseconds of one call. Where
  /// another library ran last, waits until its threads sleep: ask for all samples of one in turn.
  /// `beside` becomes what the machine was like before, within and after it: medians, because an
  /// interrupt is long for them and short for the sample.
  Expected<double> sample(size_t row, Beside *beside = nullptr);
  Expected<double> sampleVendor(size_t row, size_t vendor);

  /// A ceiling as it is now: measured within the last tenth of a second.
  double anchor(const std::string &name);

  /// How the threads write now.
  Writing writing();

  /// Verifies a row that is ok again: a kernel may be right only once.
  Status verifyAgain(size_t row);

  /// Judges a row that is ready by the ceiling that judged its earlier samples. Nothing where this
  /// machine has none of that name.
  void judgeBy(size_t row, const std::string &anchor);

  const Suite &suite() const { return measuredSuite; }
  const std::vector<PreparedRow> &rows() const { return prepared; }
  const Anchors &anchors() const { return *ceilings; }
  /// What the rows run on.
  const DeviceInfo &device() const { return runsOn; }
  const SuiteOptions &options() const { return settings; }
  /// Whether each thread of the team stays on a core of its own while it is timed.
  bool isBound() const { return team && team->isBound(); }

private:
  SuiteRunner(Suite suite, SuiteOptions options)
      : measuredSuite(std::move(suite)), settings(std::move(options)) {}
  Status bringUp(PreparedRow &row);
  Status bringUpTimer(PreparedRow &row);
  void judge(PreparedRow &row, const Accuracy &accuracy);
  Status prepareHost();
  Status prepareDevice();
  TimingOptions timing() const;
  void settle();

  struct Measured {
    double value = 0;
    std::chrono::steady_clock::time_point at;
  };

  Suite measuredSuite;
  SuiteOptions settings;
  std::vector<PreparedRow> prepared;
  std::unique_ptr<Anchors> ceilings;
  std::map<std::string, Measured> lately;
  DeviceInfo runsOn;
  std::function<void()> evict;           ///< where samples are cold
  std::optional<ShortSpinning> spinning; ///< where libraries have threads of their own
  std::optional<BoundTeam> team;
  int callerCpu = -1;  ///< where the calling thread is while it is timed
  std::string library; ///< the vendor's variant that ran last: its threads may still spin
};

} // namespace kernelforge
