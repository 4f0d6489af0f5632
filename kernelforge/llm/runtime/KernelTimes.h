// What each kernel took, and what it must move at least: the numbers behind --kernel-times.
#pragma once

#include "kernelforge/backend/Program.h"

#include <map>
#include <string>
#include <vector>

namespace kernelforge {

/// Time and calls of one kernel over all measured runs.
struct KernelTime {
  std::string name;
  std::string variant; ///< what ran it
  int64_t calls = 0;
  double seconds = 0;
  double bytes = 0; ///< of the buffers that its calls read and wrote, each counted once a call
  double flops = 0; ///< of its matmuls and attention
};

/// Adds up the launches of runs by kernel.
class KernelTimer {
public:
  /// One run of `program`; `nanoseconds` by launch. Work is counted at `sizes`, of which a bound of
  /// what attention reads may be what it did read, and not the bound that the run was given.
  void add(const Program &program, const std::vector<int64_t> &sizes,
           const std::vector<int64_t> &nanoseconds);

  /// The kernels, the most expensive first.
  std::vector<KernelTime> times() const;

private:
  std::map<std::string, KernelTime> kernels;
};

} // namespace kernelforge
