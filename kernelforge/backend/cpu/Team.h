// The threads of the CPU backend, kept by OpenMP between runs.
#pragma once

#include <functional>

namespace kernelforge {

/// Calls `member(index, team)` on `threads` threads at once, with index 0 on the calling one, and
/// returns when all have. The team may be smaller than asked (it is 1 within another parallel
/// region): members must go by `team`. `member` must not throw.
void runTeam(int threads, const std::function<void(int index, int team)> &member);

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
