#include "kernelforge/kernels/LibraryMatmul.h"

#include <algorithm>

using namespace kernelforge;

static constexpr size_t mostPrepared = 256;

bool LibraryMatmul::Use::sameWeight(const Use &other) const {
  return operands.weight == other.operands.weight && !holder.expired() &&
         !holder.owner_before(other.holder) && !other.holder.owner_before(holder);
}

bool LibraryMatmul::Use::operator==(const Use &other) const {
  return sameWeight(other) && rows == other.rows && operands.bias == other.operands.bias &&
         operands.residual == other.operands.residual && threads == other.threads;
}

Expected<std::unique_ptr<LibraryMatmul>> LibraryMatmul::create(const LibraryCall &call,
                                                               const std::string &variant,
                                                               const std::string &schedule) {
  KF_CHECK(checkLibraryCall(call));
  KF_TRY(const MatmulKernel *found, MatmulRegistry::global().find(variant));
  KF_CHECK(found->check(call.problem));
  return std::unique_ptr<LibraryMatmul>(
      new LibraryMatmul(call, *found, schedule == "{}" ? "" : schedule));
}

Status LibraryMatmul::run(std::span<void *const> buffers, std::span<const int64_t> sizes,
                          int threads, const Holder &holder) {
  if (sizes.size() != call.sizes || buffers.size() != call.buffers())
    return unusable("launch is not usable", call.problem.name(),
                    "it gives other buffers or sizes than the kernel takes");
  auto buffer = [&](unsigned argument) { return buffers[call.bufferOf(argument)]; };
  Use use;
  use.rows = call.rowsSize < 0 ? call.problem.m : sizes[static_cast<size_t>(call.rowsSize)];
  if (use.rows == 0)
    return {};
  use.operands.weight = static_cast<const std::byte *>(buffer(call.weight));
  if (call.bias)
    use.operands.bias = static_cast<const float *>(buffer(*call.bias));
  if (call.residual)
    use.operands.residual = static_cast<const float *>(buffer(*call.residual));
  use.threads = threads;
  use.holder = holder;
  KF_TRY(PreparedMatmul *const matmul, prepare(use));
  return matmul->run(static_cast<const float *>(buffer(call.input)),
                     static_cast<float *>(buffers.back()));
}

/// The matmul for a use, which moves to the front.
Expected<PreparedMatmul *> LibraryMatmul::prepare(const Use &use) {
  auto known = std::ranges::find_if(kept, [&](const Kept &one) { return one.use.sameWeight(use); });
  if (known != kept.end() && known->use == use) {
    kept.splice(kept.begin(), kept, known);
    return kept.front().matmul.get();
  }
  if (known != kept.end())
    kept.erase(known);
  // What was made of weights that are gone is of no use to anybody.
  std::erase_if(kept, [](const Kept &one) { return one.use.holder.expired(); });
  if (kept.size() == mostPrepared)
    kept.pop_back();
  MatmulProblem problem = call.problem;
  problem.m = use.rows;
  KF_TRY(std::unique_ptr<PreparedMatmul> matmul,
         variant.prepare(problem, use.operands, {use.threads, scheduleFor(problem, use.threads)}));
  kept.push_front({use, std::move(matmul)});
  return kept.front().matmul.get();
}

/// The schedule, which was chosen for the most rows, or the variant's own where it is not legal for
/// fewer.
std::string LibraryMatmul::scheduleFor(const MatmulProblem &problem, int threads) const {
  if (schedule.empty() || problem.m == call.problem.m)
    return schedule;
  const std::optional<ScheduleSpace> space = variant.scheduleSpace(problem, threads);
  const Expected<KnobValues> knobs = parseKnobs(schedule, variant.name());
  return space && knobs && space->check(*knobs) ? schedule : std::string();
}
