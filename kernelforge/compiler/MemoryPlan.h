// Where intermediates lie in the arena: space is used again as soon as nobody reads it any more.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstdint>
#include <vector>

namespace kernelforge {

/// A buffer that lives from launch `first` to launch `last`, both included.
struct Lifetime {
  int64_t bytes = 0;
  int first = 0;
  int last = 0;
};

struct MemoryPlan {
  std::vector<int64_t> offsets; ///< of each lifetime, multiples of the alignment
  int64_t arenaBytes = 0;
};

/// Lays out `lifetimes` so that no two that overlap in time overlap in space: the largest first,
/// each at the lowest place where it fits. Unusable where the sizes overflow.
Expected<MemoryPlan> planMemory(const std::vector<Lifetime> &lifetimes, int64_t alignment = 64);

} // namespace kernelforge
