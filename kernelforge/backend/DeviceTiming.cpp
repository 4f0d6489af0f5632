#include "kernelforge/backend/DeviceTiming.h"

#include <chrono>

namespace kernelforge {

Expected<CallTimes> timedRuns(Device &device, std::span<BoundProgram *const> programs,
                              std::span<const int64_t> sizes, int64_t calls, size_t &next) {
  using Clock = std::chrono::steady_clock;
  // A device that is waited for after each run may fall asleep; one is timed together with others.
  constexpr size_t together = 64;
  const auto begin = Clock::now();
  double seconds = 0;
  std::vector<BoundProgram *> runs;
  for (int64_t left = calls; left > 0;) {
    for (runs.clear(); left > 0 && runs.size() < together; --left) {
      runs.push_back(programs[next]);
      next = (next + 1) % programs.size();
    }
    KF_TRY(auto times, device.time(runs, sizes, 1));
    for (const std::vector<double> &ofRun : times)
      seconds += ofRun.front();
  }
  return CallTimes{seconds * 1e9,
                   std::chrono::duration<double, std::nano>(Clock::now() - begin).count()};
}

} // namespace kernelforge
