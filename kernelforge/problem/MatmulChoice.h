// What a matmul is to the planner: its records' key, and which variant a user gets who names none.
#pragma once

#include "kernelforge/codegen/Target.h"
#include "kernelforge/kernels/MatmulProblem.h"
#include "kernelforge/records/RecordStore.h"

#include <optional>
#include <string>

namespace kernelforge {

/// The key of measurements of a problem, of any variant: that of the kernel that it fuses into.
/// Unusable where it is not a single kernel, so that there are no records of it.
Expected<RecordKey> matmulKey(const MatmulProblem &problem, const Target &target, int threads);

/// A variant with its schedule, and why.
struct MatmulChoice {
  std::string variant = "generated";
  std::string schedule; ///< JSON; empty: the variant's own choice, as of generated code
  std::string why;
};

/// What the planner gives the problem's kernel (scheduleKernels). A problem that is no kernel
/// (isKernel) is for hand-written code alone: of that, `parallel` does all.
Expected<MatmulChoice> chooseMatmul(const MatmulProblem &problem, const Target &target, int threads,
                                    const std::optional<RecordStore> &records);

} // namespace kernelforge
