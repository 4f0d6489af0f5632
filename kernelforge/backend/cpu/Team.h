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

/// While it lives, each member of the calling thread's teams but the caller stays on a CPU of its
/// own: member i on cpus[i]. Two on one CPU can stay there for long before the system parts them.
/// Nothing is bound where there are fewer CPUs than threads or the system refuses. To be made and
/// ended on one thread; members are kept from team to team, also those of other callers.
class BoundTeam {
public:
  BoundTeam(int threads, std::span<const int> cpus);
  ~BoundTeam();
  BoundTeam(const BoundTeam &) = delete;
  BoundTeam &operator=(const BoundTeam &) = delete;

  bool isBound() const { return bound; }

private:
  void release();

  std::vector<std::vector<int>> before; ///< where each member was
  bool bound = false;
};

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
