// One thread, blocked for the caches: what the hand-written loops reach without parallelism.
#include "kernelforge/kernels/BlockedSchedule.h"
#include "kernelforge/kernels/MatmulVariants.h"
#include "kernelforge/support/PageMemory.h"

using namespace kernelforge;

namespace {

class PreparedBlocked final : public PreparedMatmul {
public:
  PreparedBlocked(const MatmulProblem &problem, const MatmulOperands &operands,
                  const Blocking &blocking, PageMemory scratch)
      : problem(problem), operands(operands), loops(problem, operands, blocking),
        scratch(std::move(scratch)) {}

  Status run(const float *input, float *output) override {
    const MatmulArea area = wholeArea(problem);
    loops.run(area, input, output, reinterpret_cast<float *>(scratch.data()));
    Epilogue{problem.epilogue, operands.bias, operands.residual, problem.n}.apply(area, output);
    return {};
  }

private:
  MatmulProblem problem;
  MatmulOperands operands;
  BlockedLoops loops;
  PageMemory scratch;
};

class BlockedMatmul final : public MatmulKernel {
public:
  std::string_view name() const override { return "blocked"; }
  MatmulSupport supports(const MatmulProblem &problem) const override {
    return MatmulSupport::inF32(problem);
  }

  std::optional<ScheduleSpace> scheduleSpace(const MatmulProblem &problem, int) const override {
    const MatmulArea area = wholeArea(problem);
    ScheduleSpace space = spaceOf(blockingRules(problem, area), problem.name() + ", blocked");
    space.predict = [problem, area](const KnobValues &values) {
      return predictBlocked(problem, area, blockingOf(values));
    };
    return space;
  }

private:
  /// Runs on the calling thread, however many are asked for.
  Expected<std::unique_ptr<PreparedMatmul>> make(const MatmulProblem &problem,
                                                 const MatmulOperands &operands,
                                                 const KnobValues &schedule, int) const override {
    const Blocking blocking = blockingOf(schedule);
    const int64_t values = BlockedLoops(problem, operands, blocking).scratchValues();
    KF_TRY(PageMemory scratch, PageMemory::allocate(4 * static_cast<uint64_t>(values)));
    return std::make_unique<PreparedBlocked>(problem, operands, blocking, std::move(scratch));
  }
};

} // namespace

std::unique_ptr<MatmulKernel> kernelforge::makeBlockedMatmul() {
  return std::make_unique<BlockedMatmul>();
}
