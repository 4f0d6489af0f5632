// Threads that work together: kept between calls, waiting awake for a moment and then asleep.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace kernelforge {

/// Work in steps. The tasks of a step are done in any order, by whoever is there; a step begins
/// when the one before it is done. Nothing of it may throw.
class SteppedWork {
public:
  virtual ~SteppedWork() = default;

  virtual size_t steps() const = 0;
  /// Tasks of a step: 1 to maxTasks.
  virtual int64_t tasks(size_t step) const = 0;
  /// Does one task on member `member` of the team, 0 to its threads - 1.
  virtual void run(size_t step, int64_t task, int member) = 0;
  /// When a step is done and before the next begins, on one member. False ends the work.
  virtual bool completed(size_t step) = 0;

  static constexpr int64_t maxTasks = (int64_t(1) << 38) - 1;
};

/// Does all steps with up to `threads` threads, the calling one among them, and returns when they
/// are done. It waits for work, not for threads: one that the system has displaced is waited for
/// only while it has a task. Within a member of a team, the calling thread does it alone.
void runSteps(int threads, SteppedWork &work);

/// Calls `member(index, team)` on `threads` threads at once, with index 0 on the calling one, and
/// returns when all have. The team may be smaller than asked (it is 1 within a member of another):
/// members must go by `team`. `member` must not throw.
void runTeam(int threads, const std::function<void(int index, int team)> &member);

/// While it lives, each member of the calling thread's teams but the caller stays on a CPU of its
/// own: member i on cpus[i]. Two on one CPU can stay there for long before the system parts them.
/// Nothing is bound where there are fewer CPUs than threads or the system refuses. To be made and
/// ended on one thread.
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

/// While it lives, the calling thread's team and OpenMP's threads stay awake for so many
/// milliseconds only after a run: on cores that a library with threads of its own needs next.
class ShortSpinning {
public:
  explicit ShortSpinning(int milliseconds);
  ~ShortSpinning();
  ShortSpinning(const ShortSpinning &) = delete;
  ShortSpinning &operator=(const ShortSpinning &) = delete;

private:
  std::chrono::milliseconds before;
  int openMpBefore;
};

} // namespace kernelforge
