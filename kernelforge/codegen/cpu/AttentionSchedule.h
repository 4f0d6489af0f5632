// What the attention family's emitter and its schedules share: the knobs and their limits.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/cpu/Target.h"

namespace kernelforge::cpu::attention {

/// Knobs of an attention schedule. Only the form of one row at a time splits and fetches ahead.
struct Knobs {
  int64_t queryBlock; ///< rows of a task; 1 is the form that takes one row at a time
  int64_t keyBlock;   ///< keys of a step of the online softmax
  int64_t mr, nr;     ///< register tile: stacked rows, vectors
  int64_t splits;     ///< tasks that share one row's keys
  int64_t splitKeys;  ///< fewer keys are not split
  int64_t prefetch;   ///< rows of keys and values fetched ahead
};

/// The knobs of `values`, checked against what kernel and target allow.
Expected<Knobs> readKnobs(const KernelAnalysis &kernel, const Target &target,
                          const KnobValues &values);

} // namespace kernelforge::cpu::attention
