// A barrier for launches that take microseconds: OpenMP's own costs several times more, and a
// sleeping one tens of microseconds.
#pragma once

#include <atomic>
#include <sched.h>

namespace kernelforge {

/// Makes the members of a team wait for each other, any number of times. All members must be
/// running or runnable: waiting burns the processor for a while before it is offered to others.
class SpinBarrier {
public:
  /// Where there are more members than processors, `spinning` is false: whoever waits makes way.
  explicit SpinBarrier(bool spinning = true) : spinLimit(spinning ? usualSpins : 0) {}

  /// Returns when all `team` members have called it. The last one calls `atLast()` before it lets
  /// the others go, so what that writes is seen by all of them.
  template <typename AtLast> void wait(int team, AtLast atLast) {
    unsigned round = generation.load(std::memory_order_relaxed);
    if (arrived.fetch_add(1, std::memory_order_acq_rel) == team - 1) {
      atLast();
      arrived.store(0, std::memory_order_relaxed);
      generation.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; generation.load(std::memory_order_acquire) == round; ++spins) {
      if (spins < spinLimit)
        pause();
      else
        ::sched_yield(); // the others may be waiting for this very core
    }
  }

private:
  /// About 20 to 50 microseconds (a pause is 10 to 45 ns): longer than the imbalance of a decode
  /// kernel, far shorter than the time slice that a displaced thread would wait for.
  static constexpr int usualSpins = 1000;

  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  const int spinLimit;
  // Apart, so that arrivals do not disturb those who watch the generation.
  alignas(64) std::atomic<int> arrived{0};
  alignas(64) std::atomic<unsigned> generation{0};
};

} // namespace kernelforge
