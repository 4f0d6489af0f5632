// Two stored reports compared.
#pragma once

#include "kernelforge/eval/Comparison.h"

namespace kernelforge {

struct CompareOptions {
  double threshold =
      0.07; ///< of a ratio's distance from 1, as a factor of 1 + threshold either way
  double alpha = 0.05;
  bool force = false; ///< also where machines, suites or settings differ
};

/// Unusable where no row is in both or, naming every difference with both values and unless they
/// are compared by `force` all the same, where the reports are of different machines
/// (processor, cores, memory by more than 5 %), suites or settings (threads and whether they have
/// cores of their own, mode, length of a batch, whether anything was timed, records, target with
/// its features).
Status checkComparable(const Report &a, const Report &b, bool force = false);

/// Compares `b` with `a`. Times are multiplied by the anchor that judges the row, measured in the
/// same round, so that the machine's drift cancels. p is of the U test, adjusted by Holm over all
/// rows that can be judged; the interval is a bootstrap of the ratio of medians.
///
/// A row is inconclusive whatever its figures where a side is not trusted, where the rows have
/// different anchors or the medians of their anchor differ by more than 10 %, or where a side has
/// too few samples for the test to find anything.
///
/// Samples of one run are no independent draws of what a run gives: memory is placed once a
/// process, neighbours and clocks change from run to run. Intervals from within two runs are too
/// narrow by that, and no number of samples helps. The threshold is the margin for it: a row counts
/// only where all of its interval is beyond. Intervals of short calls are widened by what differs
/// from process to process.
///
/// Errors are those of checkComparable.
Expected<Comparison> compareReports(const Report &a, const Report &b,
                                    const CompareOptions &options = {});

} // namespace kernelforge
