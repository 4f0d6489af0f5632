// The generated variant: a matmul compiled for this processor, behind the same interface as the
// others.
#pragma once

#include "kernelforge/compiler/Session.h"
#include "kernelforge/kernels/MatmulKernel.h"

namespace kernelforge {

/// Compiles with the planner's schedule where none is given: from records, transferred or analytic.
class GeneratedMatmul : public MatmulKernel {
public:
  /// `options` say for which target; threads come with each problem.
  explicit GeneratedMatmul(SessionOptions options) : options(std::move(options)) {}

  std::string_view name() const override { return "generated"; }
  MatmulSupport supports(const MatmulProblem &problem) const override;
  std::optional<ScheduleSpace> scheduleSpace(const MatmulProblem &problem,
                                             int threads) const override;

private:
  bool choosesSchedule() const override { return true; }
  Expected<std::unique_ptr<PreparedMatmul>> make(const MatmulProblem &problem,
                                                 const MatmulOperands &operands,
                                                 const KnobValues &schedule,
                                                 int threads) const override;

  SessionOptions options;
};

} // namespace kernelforge
