// Samples of two reports as if the machine had been alike when they were taken.
#pragma once

#include "kernelforge/eval/Report.h"

#include <array>

namespace kernelforge {

/// How much a row's time feels of the machine: powers that it is in inverse proportion to.
struct MachineExponents {
  double anchor = 1;       ///< of the row's anchor; of arithmetic where that is a cache
  double writeFirst = 0;   ///< of the calling thread's writing
  double writeSlowest = 0; ///< of the slowest thread's
};

struct LikeSamples {
  /// Nanoseconds, as on the machine that A was usually measured on.
  std::vector<double> a, b;
  MachineExponents exponents;
  /// Standard deviation of log(median(b) / median(a)) by not knowing the exponents, and by a
  /// quarter of what is taken out for writing: the larger, the more the machine differed between
  /// reports.
  double deviation = 0;
};

/// Analysis of covariance: log(time) = side - sum of exponent * log(rate), with the same exponents
/// on both sides. They are fitted to how samples differ within each side, so that a change of the
/// row is not taken for one of the machine. A row that its anchor bounds has the exponent 1 for it;
/// that is what is assumed as far as samples do not tell otherwise, the more firmly (a normal
/// prior) the nearer the row is to its roofline. Where a cache is the anchor, arithmetic stands for
/// it: what drifts in a cache is the clock, and the rest of its rate is of one run. Of writing 0 is
/// assumed, not firmly. Nobody is faster on a slower machine: exponents are not negative. Huber's
/// weights keep outliers from deciding. A rate that one side does not know is left out.
/// Of fewer than 12 samples exponents stay as they are by default.
/// Sources: R. A. Fisher, Statistical Methods for Research Workers (1932), section 49.1; P. Huber,
/// Robust Statistics (1981), section 7.8.
LikeSamples onLikeMachines(const ReportRow &a, const ReportRow &b);

} // namespace kernelforge
