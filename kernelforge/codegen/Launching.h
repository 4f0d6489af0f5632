// How a kernel's code is launched: phases of task grids, scratch, workspace. The same for every
// target; backends read it from programs.
#pragma once

#include <cstdint>
#include <vector>

namespace kernelforge {

/// An extent that may follow a dynamic size: multiplier * ceil(sizes[size] / divisor), or just
/// `multiplier` where size is -1.
struct Extent {
  int64_t multiplier = 1;
  int size = -1;
  int64_t divisor = 1;

  int64_t evaluate(const int64_t *sizes) const {
    return size < 0 ? multiplier : multiplier * ((sizes[size] + divisor - 1) / divisor);
  }
};

/// One phase of a kernel: all tasks of its grid may run at once; the next phase starts when the
/// last has ended. `grid` is a product of extents over the kernel's own sizes.
struct Phase {
  std::vector<Extent> grid;
  int64_t block = 1;        ///< threads of a block on a GPU; 1 on a CPU
  int64_t cluster = 1;      ///< blocks of a cluster on a GPU; 1 on a CPU
  int64_t sharedBytes = 0;  ///< shared memory of a block on a GPU
  int64_t scratchBytes = 0; ///< scratch per worker, 64-byte aligned, not cleared
};

/// What an emitter says of the code that it made.
struct Launching {
  std::vector<Phase> phases;
  Extent workspaceBytes{0}; ///< buffer shared by all tasks of one launch; 0: none
};

} // namespace kernelforge
