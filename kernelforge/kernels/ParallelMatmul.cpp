// The blocked loops on several threads: the result is cut into rows and columns, and the sum, too,
// where it has too few of both. Partial sums are added in their order along k, so that a schedule
// gives the same bits in every run and with every number of threads.
#include "kernelforge/kernels/BlockedSchedule.h"
#include "kernelforge/kernels/MatmulVariants.h"
#include "kernelforge/support/PageMemory.h"

#include <algorithm>
#include <omp.h>

using namespace kernelforge;

namespace {

/// Into how many parts each dimension is cut.
struct Split {
  int64_t m = 1, n = 1, k = 1;
  int64_t tiles() const { return m * n; }
};

Split splitOf(const KnobValues &schedule) {
  return {schedule.at("split_m"), schedule.at("split_n"), schedule.at("split_k")};
}

/// Part `index` of `parts` equal ones of [0, size), cut at multiples of `unit`; may be empty.
std::pair<int64_t, int64_t> partOf(int64_t size, int64_t parts, int64_t index, int64_t unit) {
  const int64_t units = (size + unit - 1) / unit;
  return {std::min(size, units * index / parts * unit),
          std::min(size, units * (index + 1) / parts * unit)};
}

/// The area of task `task`: parts of the sum follow each other, so that threads that work at the
/// same time read different weights.
MatmulArea areaOf(const MatmulProblem &problem, const Split &split, int64_t task) {
  MatmulArea area;
  std::tie(area.kBegin, area.kEnd) =
      partOf(problem.k, split.k, task / split.tiles(), depthUnit(problem));
  const int64_t tile = task % split.tiles();
  std::tie(area.columnBegin, area.columnEnd) =
      partOf(problem.n, split.n, tile / split.m, tileKernels().columns);
  std::tie(area.rowBegin, area.rowEnd) = partOf(problem.m, split.m, tile % split.m, tileRows);
  return area;
}

class PreparedParallel final : public PreparedMatmul {
public:
  PreparedParallel(const MatmulProblem &problem, const MatmulOperands &operands,
                   const Blocking &blocking, const Split &split, int threads)
      : problem(problem), operands(operands), loops(problem, operands, blocking), split(split),
        threads(threads), scratchValues((loops.scratchValues() + 1023) / 1024 * 1024) {}

  Status allocate() {
    const auto values = static_cast<uint64_t>(scratchValues) * static_cast<uint64_t>(threads);
    KF_TRY(scratch, PageMemory::allocate(4 * values));
    const auto results = static_cast<uint64_t>(problem.m * problem.n);
    KF_TRY(partials, PageMemory::allocate(4 * results * static_cast<uint64_t>(split.k - 1)));
    return {};
  }

  Status run(const float *input, float *output) override {
    const Epilogue epilogue{problem.epilogue, operands.bias, operands.residual, problem.n};
    auto *mine = reinterpret_cast<float *>(scratch.data());
#pragma omp parallel num_threads(threads)
    {
      float *memory = mine + scratchValues * omp_get_thread_num();
#pragma omp for schedule(static)
      for (int64_t task = 0; task < split.tiles() * split.k; ++task) {
        const MatmulArea area = areaOf(problem, split, task);
        loops.run(area, input, partial(task / split.tiles(), output), memory);
        if (split.k == 1)
          epilogue.apply(area, output);
      }
      if (split.k > 1) {
#pragma omp for schedule(static)
        for (int64_t tile = 0; tile < split.tiles(); ++tile) {
          const MatmulArea area = areaOf(problem, split, tile);
          addPartials(area, output);
          epilogue.apply(area, output);
        }
      }
    }
    return {};
  }

private:
  /// Where part `part` of the sum goes: the first into the result itself.
  float *partial(int64_t part, float *output) const {
    if (part == 0)
      return output;
    return reinterpret_cast<float *>(partials.data()) + (part - 1) * problem.m * problem.n;
  }

  void addPartials(const MatmulArea &area, float *output) const {
    for (int64_t part = 1; part < split.k; ++part) {
      const float *from = partial(part, output);
      for (int64_t row = area.rowBegin; row < area.rowEnd; ++row)
        for (int64_t i = row * problem.n + area.columnBegin; i < row * problem.n + area.columnEnd;
             ++i)
          output[i] += from[i];
    }
  }

  MatmulProblem problem;
  MatmulOperands operands;
  BlockedLoops loops;
  Split split;
  int threads;
  int64_t scratchValues; ///< of a thread
  PageMemory scratch, partials;
};

/// Each thread gets columns, as the weight is then packed once only; rows where there are too few
/// columns; parts of the sum where there are too few of both.
Split analyticSplit(const MatmulProblem &problem, int64_t threads) {
  const auto parts = [](int64_t size, int64_t unit) { return (size + unit - 1) / unit; };
  Split split;
  split.n = std::min(threads, parts(problem.n, tileKernels().columns));
  split.m = std::min(threads / split.n, parts(problem.m, tileRows));
  split.k = std::clamp<int64_t>(threads / split.tiles(), 1, parts(problem.k, 512));
  return split;
}

class ParallelMatmul final : public MatmulKernel {
public:
  std::string_view name() const override { return "parallel"; }
  MatmulSupport supports(const MatmulProblem &problem) const override {
    return MatmulSupport::inF32(problem);
  }

  std::optional<ScheduleSpace> scheduleSpace(const MatmulProblem &problem,
                                             int threads) const override {
    const auto most = [](int64_t size, int64_t unit) {
      return std::min<int64_t>(1024, (size + unit - 1) / unit);
    };
    const int64_t depthParts = std::min<int64_t>(64, most(problem.k, depthUnit(problem)));
    const Split split = analyticSplit(problem, threads);
    std::vector<int64_t> tried{1};
    for (int64_t factor : {1, 2, 4})
      tried.push_back(factor * threads);
    std::vector<KnobRule> rules = {
        {{"split_m", tried, "parts of the rows"}, {1, most(problem.m, tileRows)}, split.m},
        {{"split_n", tried, "parts of the columns"},
         {1, most(problem.n, tileKernels().columns)},
         split.n},
        {{"split_k", tried, "parts of the sum, added in their order"}, {1, depthParts}, split.k},
    };
    for (KnobRule &rule : blockingRules(problem, areaOf(problem, split, 0)))
      rules.push_back(std::move(rule));
    ScheduleSpace space = spaceOf(std::move(rules), problem.name() + ", parallel");
    space.predict = [problem, threads](const KnobValues &values) {
      const Split split = splitOf(values);
      const int64_t tasks = split.tiles() * split.k, rounds = (tasks + threads - 1) / threads;
      const double reduction = double(problem.m) * double(problem.n) * double(split.k - 1) * 8e-11;
      return 5e-6 + reduction / double(std::min<int64_t>(threads, split.tiles())) +
             double(rounds) *
                 predictBlocked(problem, areaOf(problem, split, 0), blockingOf(values));
    };
    return space;
  }

private:
  Expected<std::unique_ptr<PreparedMatmul>> make(const MatmulProblem &problem,
                                                 const MatmulOperands &operands,
                                                 const KnobValues &schedule,
                                                 int threads) const override {
    auto prepared = std::make_unique<PreparedParallel>(problem, operands, blockingOf(schedule),
                                                       splitOf(schedule), threads);
    KF_CHECK(prepared->allocate());
    return prepared;
  }
};

} // namespace

std::unique_ptr<MatmulKernel> kernelforge::makeParallelMatmul() {
  return std::make_unique<ParallelMatmul>();
}
