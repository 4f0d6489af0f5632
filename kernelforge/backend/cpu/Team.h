// The threads of the CPU backend, kept by OpenMP between runs.
#pragma once

#include <functional>
#include <span>
#include <vector>

namespace kernelforge {

/// Calls `member(index, team)` on `threads` threads at once, with index 0 on the calling one, and
/// returns when all have. The team may be smaller than asked (it is 1 within another parallel
/// region): members must go by `team`. `member` must not throw.
void runTeam(int threads, const std::function<void(int index, int team)> &member);

/// From now on, each member of the calling thread's teams but the caller stays on a CPU of its own:
/// member i on cpus[i]. Two on one CPU can stay there for long before the system parts them. False,
/// and nothing is bound, where there are fewer CPUs than threads or the system refuses.
bool bindTeam(int threads, std::span<const int> cpus);

/// While it lives, the calling thread stays on one CPU. Not longer than it has to: threads that it
/// makes inherit that.
class BoundCaller {
public:
  /// `cpu` below 0: binds nothing.
  explicit BoundCaller(int cpu);
  ~BoundCaller();
  BoundCaller(const BoundCaller &) = delete;
  BoundCaller &operator=(const BoundCaller &) = delete;

private:
  std::vector<int> before;
};

/// While it lives, members of the calling thread's teams spin for so many milliseconds only after a
/// run, then sleep, where usually they spin for long: on cores that a library with threads of its
/// own needs next.
class ShortSpinning {
public:
  explicit ShortSpinning(int milliseconds);
  ~ShortSpinning();
  ShortSpinning(const ShortSpinning &) = delete;
  ShortSpinning &operator=(const ShortSpinning &) = delete;

private:
  int before;
};

} // namespace kernelforge
