#include "kernelforge/compiler/HostMatmul.h"

#include <algorithm>
#include <list>
#include <mutex>

using namespace kernelforge;

namespace {

constexpr size_t mostPrepared = 256;

/// What a prepared matmul is for.
struct Use {
  int64_t rows = 0;
  MatmulOperands operands;
  int threads = 1;

  bool operator==(const Use &other) const {
    return rows == other.rows && operands.weight == other.operands.weight &&
           operands.bias == other.operands.bias && operands.residual == other.operands.residual &&
           threads == other.threads;
  }
};

class HostMatmul final : public HostKernel {
public:
  HostMatmul(const LibraryProblem &library, const MatmulKernel &variant, std::string schedule)
      : library(library), variant(variant), schedule(std::move(schedule)) {}

  Status run(std::span<void *const> args, std::span<const int64_t> sizes, int threads) override {
    if (sizes.size() != library.sizes || args.size() != library.arguments - library.sizes + 1)
      return unusable("launch is not usable", library.problem.name(),
                      "it gives other buffers or sizes than the kernel takes");
    auto buffer = [&](unsigned argument) { return args[argument - library.sizes]; };
    Use use;
    use.rows = library.rowsSize < 0 ? library.problem.m : sizes[library.rowsSize];
    use.operands.weight = static_cast<const std::byte *>(buffer(library.weight));
    if (library.bias)
      use.operands.bias = static_cast<const float *>(buffer(*library.bias));
    if (library.residual)
      use.operands.residual = static_cast<const float *>(buffer(*library.residual));
    use.threads = threads;
    const std::lock_guard<std::mutex> guard(lock);
    KF_TRY(PreparedMatmul * matmul, prepare(use));
    return matmul->run(static_cast<const float *>(buffer(library.input)),
                       static_cast<float *>(args.back()));
  }

  void forget() override {
    const std::lock_guard<std::mutex> guard(lock);
    kept.clear();
  }

private:
  struct Kept {
    Use use;
    std::unique_ptr<PreparedMatmul> matmul;
  };

  /// The matmul for a use, which moves to the front.
  Expected<PreparedMatmul *> prepare(const Use &use) {
    auto known = std::ranges::find_if(
        kept, [&](const Kept &one) { return one.use.operands.weight == use.operands.weight; });
    if (known != kept.end() && known->use == use) {
      kept.splice(kept.begin(), kept, known);
      return kept.front().matmul.get();
    }
    if (known != kept.end())
      kept.erase(known);
    else if (kept.size() == mostPrepared)
      kept.pop_back();
    MatmulProblem problem = library.problem;
    problem.m = use.rows;
    KF_TRY(std::unique_ptr<PreparedMatmul> matmul,
           variant.prepare(problem, use.operands, {use.threads, scheduleFor(problem, use)}));
    kept.push_front({use, std::move(matmul)});
    return kept.front().matmul.get();
  }

  /// The schedule, which was chosen for the most rows, or the variant's own where it is not legal
  /// for fewer.
  std::string scheduleFor(const MatmulProblem &problem, const Use &use) const {
    if (schedule.empty() || problem.m == library.problem.m)
      return schedule;
    const std::optional<ScheduleSpace> space = variant.scheduleSpace(problem, use.threads);
    const Expected<KnobValues> knobs = parseKnobs(schedule, variant.name());
    return space && knobs && space->check(*knobs) ? schedule : std::string();
  }

  const LibraryProblem library;
  const MatmulKernel &variant;
  const std::string schedule;
  std::mutex lock;
  std::list<Kept> kept; ///< the one that ran last in front
};

} // namespace

std::shared_ptr<HostKernel> kernelforge::makeHostMatmul(const LibraryProblem &kernel,
                                                        const MatmulKernel &variant,
                                                        std::string schedule) {
  return std::make_shared<HostMatmul>(kernel, variant, std::move(schedule));
}
