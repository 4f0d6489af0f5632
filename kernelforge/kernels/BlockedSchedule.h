// The knobs that the blocked and the parallel variant have in common.
#pragma once

#include "kernelforge/kernels/BlockedLoops.h"
#include "kernelforge/kernels/KnobRules.h"

namespace kernelforge {

/// Knobs mc, nc, kc and pack, where one thread has the part of `area` to do.
std::vector<KnobRule> blockingRules(const MatmulProblem &problem, const MatmulArea &area);

/// Of a legal schedule.
Blocking blockingOf(const KnobValues &schedule);

/// Seconds that one thread takes for `area`, by a coarse model: arithmetic, packing, and reading
/// the weight.
double predictBlocked(const MatmulProblem &problem, const MatmulArea &area,
                      const Blocking &blocking);

/// The whole problem.
MatmulArea wholeArea(const MatmulProblem &problem);

} // namespace kernelforge
