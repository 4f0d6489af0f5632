#include "kernelforge/compiler/MemoryPlan.h"

#include <algorithm>
#include <limits>
#include <numeric>

using namespace kernelforge;

/// Places and ends of buffers stay below this, so that sums of two do not overflow.
static constexpr int64_t mostBytes = std::numeric_limits<int64_t>::max() / 4;

static tl::unexpected<Error> tooLarge() {
  return unusable("program needs too much memory", "memory plan",
                  "the sizes of its intermediates overflow", "lower the largest sizes");
}

Expected<MemoryPlan> kernelforge::planMemory(const std::vector<Lifetime> &lifetimes,
                                             int64_t alignment) {
  MemoryPlan plan;
  auto aligned = [alignment](int64_t offset) {
    return (offset + alignment - 1) / alignment * alignment;
  };
  for (const Lifetime &lifetime : lifetimes)
    if (lifetime.bytes < 0 || lifetime.bytes > mostBytes)
      return tooLarge();
  plan.offsets.assign(lifetimes.size(), 0);
  std::vector<size_t> order(lifetimes.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::pair(-lifetimes[a].bytes, a) < std::pair(-lifetimes[b].bytes, b);
  });
  std::vector<size_t> placed;
  for (size_t index : order) {
    const Lifetime &lifetime = lifetimes[index];
    // What is placed already and alive at the same time, from low to high.
    std::vector<size_t> neighbours;
    for (size_t other : placed)
      if (lifetimes[other].first <= lifetime.last && lifetime.first <= lifetimes[other].last)
        neighbours.push_back(other);
    std::sort(neighbours.begin(), neighbours.end(),
              [&](size_t a, size_t b) { return plan.offsets[a] < plan.offsets[b]; });
    int64_t offset = 0;
    for (size_t other : neighbours) {
      if (offset + lifetime.bytes <= plan.offsets[other])
        break;
      offset = std::max(offset, aligned(plan.offsets[other] + lifetimes[other].bytes));
    }
    const int64_t end = offset + lifetime.bytes;
    if (end > mostBytes)
      return tooLarge();
    plan.offsets[index] = offset;
    plan.arenaBytes = std::max(plan.arenaBytes, aligned(end));
    placed.push_back(index);
  }
  return plan;
}
