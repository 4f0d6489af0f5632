// What this machine can do at most: arithmetic of each kind and reading from each level of memory,
// measured, because data sheets know nothing of clocks, power limits and neighbours.
#pragma once

#include "kernelforge/support/Error.h"
#include "kernelforge/support/Numerics.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// Best rate of one kind of arithmetic. A multiply-add counts as two operations.
struct ArithmeticPeak {
  std::string name;        ///< fma_f32, dot_bf16, dot_int8, amx_bf16, amx_int8
  std::string instruction; ///< what was measured
  double oneCore = 0;      ///< operations per second
  double allCores = 0;
};

/// Best rate of reading a working set again and again.
struct ReadBandwidth {
  std::string level;   ///< l1d, l2, l3, memory: where the set fits
  int64_t bytes = 0;   ///< of one core's set
  double oneCore = 0;  ///< bytes per second
  double allCores = 0; ///< each core with a set of its own; of l3 and memory, a share of it
};

/// Calls `member(index, team)` on `threads` threads at once, or on a smaller team, and returns when
/// all have.
using TeamFn =
    std::function<void(int threads, const std::function<void(int index, int team)> &member)>;

/// Calls `work(thread)` again and again on a team (or on threads of its own, where none is given)
/// for `seconds`: calls per second of each thread.
std::vector<double> teamRates(const TeamFn &team, int threads, double seconds,
                              const std::function<void(int thread)> &work);

/// The same of all threads together.
double teamRate(const TeamFn &team, int threads, double seconds,
                const std::function<void(int thread)> &work);

struct CeilingOptions {
  int threads = 1;                           ///< what "all cores" means
  double seconds = 0.05;                     ///< of one measurement; each is the best of three
  const std::atomic<bool> *cancel = nullptr; ///< where true: Interrupted

  /// The threads that kernels run on, where some ran before: threads of that team still spin, and
  /// would be in the way of others. Not set: threads of its own.
  TeamFn team = {};
};

/// Peaks of every kind that this processor and system have. Interrupted, or Failed where memory
/// cannot be had.
Expected<std::vector<ArithmeticPeak>> measurePeaks(const CeilingOptions &options);
Expected<std::vector<ReadBandwidth>> measureReadBandwidth(const CeilingOptions &options);

/// What it takes to give each thread of a team a task and to wait for all of them, in seconds: of a
/// run from its call to its return, and of each step of a long one. Medians; the tasks' own time is
/// not in it.
struct TeamOverhead {
  double run = 0;
  double step = 0;
};
Expected<TeamOverhead> measureTeamOverhead(const CeilingOptions &options);

/// What one kernel can reach at most on `threads` threads, or on a device. 0: not measured.
struct KernelCeilings {
  double fma = 0;  ///< operations per second of multiply-adds: of f32, or by what `arithmetic` says
  double read = 0; ///< bytes per second of moving its working set again and again
  std::string_view arithmetic = "fma_f32"; ///< an ArithmeticPeak's name

  /// Whether both are known: what follows is of use then only.
  bool areKnown() const { return fma > 0 && read > 0; }

  /// The least time for so many operations and bytes, by the roofline model: of the two that take
  /// place at once the longer one.
  double leastSeconds(double flops, double bytes) const {
    return std::max(flops / fma, bytes / read);
  }
  bool isComputeBound(double flops, double bytes) const { return flops / fma >= bytes / read; }
};

/// What of a processor multiplies in numerics, by the names of ArithmeticPeak: the fastest first,
/// and multiply-adds of f32 last, which every processor has.
std::span<const std::string_view> arithmeticOf(Numerics numerics);

/// Ceilings for a working set of `bytes`, of which each thread reads a share; a large set counts as
/// one that memory has to serve. Fast: for measuring before and after a kernel. Of arithmeticOf()
/// the first that the processor has counts.
Expected<KernelCeilings> measureKernelCeilings(int64_t bytes, const CeilingOptions &options,
                                               Numerics numerics = Numerics::F32);

/// Bytes that no cache holds: four times the last-level cache, at most 256 MiB.
int64_t uncachedBytes();

} // namespace kernelforge
