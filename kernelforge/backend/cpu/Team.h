// The threads of the CPU backend, kept by OpenMP between runs.
#pragma once

#include <functional>

namespace kernelforge {

/// Calls `member(index, team)` on `threads` threads at once, with index 0 on the calling one, and
/// returns when all have. The team may be smaller than asked (it is 1 within another parallel
/// region): members must go by `team`. `member` must not throw.
void runTeam(int threads, const std::function<void(int index, int team)> &member);

/// Lets threads sleep milliseconds after a run, not long after: they spin on cores that a library
/// with threads of its own may need next. For who measures such a library beside a team.
void shortenSpinning();

} // namespace kernelforge
