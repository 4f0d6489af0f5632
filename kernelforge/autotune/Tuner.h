// Finds a good schedule for one kernel: a strategy proposes, workers verify and measure, every
// candidate becomes a record, and the records decide.
#pragma once

#include "kernelforge/autotune/Strategy.h"
#include "kernelforge/autotune/WorkerProcess.h"
#include "kernelforge/records/RecordStore.h"

#include <atomic>
#include <functional>

namespace kernelforge {

/// What has happened so far, for a progress line.
struct TuneProgress {
  std::string kernel;
  int trial = 0, trials = 0;
  double best = 1;              ///< time of the best so far as a multiple of the default's
  double seconds = 0;           ///< spent
  double allowed = 0;           ///< 0: no limit
  std::string schedule, status; ///< of the last candidate
  std::string vendor = "";      ///< the best of the vendors' libraries; empty: none
  double vendorRatio = 0;       ///< its time as a multiple of the default's
};

struct TuneOptions {
  std::string strategy = "model";
  uint64_t seed = 0;
  int trials = 64;    ///< candidates at most, those taken from records included
  double seconds = 0; ///< at most; 0: no limit
  int patience = 0;   ///< candidates without a better one before it ends; 0: no limit

  /// The baseline that all candidates are measured beside; the analytic default where it is not
  /// given. A search does not propose the analytic default where this is another.
  std::optional<KnobValues> start;

  /// Whether other variants of matmul are measured, too, where the kernel is a library problem.
  bool otherVariants = false;

  WorkerOptions worker;
  StrategyRegistry strategies = defaultStrategies();

  /// For tests: changes the program of a candidate after it was compiled.
  std::function<std::shared_ptr<const Program>(const KnobValues &, std::shared_ptr<const Program>)>
      tamper;

  std::function<void(const TuneProgress &)> progress;
  const std::atomic<bool> *cancel = nullptr; ///< where true: Interrupted, with all records kept
};

/// Another variant of the same problem, in records.
struct VariantResult {
  std::string variant;
  RecordStatus status = RecordStatus::Ok;
  double ratio = 0; ///< its time as a multiple of the baseline's; 0 where it did not run
};

struct TuneResult {
  Choice choice;           ///< the winner among schedules, or the baseline
  bool foundBetter = true; ///< false where nothing was shown to be faster than the baseline
  std::vector<VariantResult> variants; ///< in the order of the registry
  int trials = 0;                      ///< candidates tried
  int measured = 0;                    ///< of those, measured now; the others were in the records
  int failed = 0; ///< of those, candidates that crashed, hung, were wrong or did not compile
  int lost = 0;   ///< records that could not be kept
  int priors = 0; ///< trials of other kernels that the strategy was given
  std::vector<std::string> proposals; ///< schedules in the order they were tried, as JSON
};

/// Tunes `problem`. A candidate that the records hold with the same code is not measured again, so
/// that an interrupted search goes on where it was, and a search over the same records with the
/// same seed and trials makes the same proposals and choice. The strategy is told what the records
/// of other kernels of this machine say, as they were when the search began (recordPriors). A
/// record that cannot be kept is a warning and counted: the search goes on. Failed where not even
/// the baseline runs.
///
/// Other variants are measured before the search, once a key, and never again by later ones.
/// Records of schedules have their ratio to the best vendor's library then.
Expected<TuneResult> tuneKernel(const KernelProblem &problem, const RecordStore &store,
                                const TuneOptions &options);

/// Measures a whole space, or `points` schedules spread over it, each briefly beside the analytic
/// default; then the best 32 again in turns. What Replay reads, with all ratios. `progress` gets
/// the number of points done.
Expected<Json> recordSpace(const KernelProblem &problem, size_t points, const TuneOptions &options);

/// Measures one schedule beside the problem's analytic default, with verification before and after:
/// what a search does with each candidate.
Expected<Record> measureSchedule(const KernelProblem &problem, const KnobValues &schedule,
                                 const TuneOptions &options);

} // namespace kernelforge
