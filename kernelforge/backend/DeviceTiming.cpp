#include "kernelforge/backend/DeviceTiming.h"

#include <algorithm>
#include <chrono>

namespace kernelforge {

Expected<CallTimes> timedRuns(Device &device, std::span<BoundProgram *const> programs,
                              std::span<const int64_t> sizes, int64_t calls, size_t &next) {
  using Clock = std::chrono::steady_clock;
  constexpr size_t most = 1 << 20; // times that one call of the device gives back
  const auto begin = Clock::now();
  double seconds = 0;
  for (auto left = static_cast<size_t>(calls); left > 0;) {
    // Whole rounds where they begin with the first, or the rest of one.
    const size_t some = std::min(left, programs.size() - next);
    const size_t rounds =
        next == 0 ? std::clamp<size_t>(left / some, 1, std::max<size_t>(most / some, 1)) : 1;
    KF_TRY(auto times, device.time(programs.subspan(next, some), sizes, static_cast<int>(rounds)));
    for (const std::vector<double> &ofProgram : times)
      for (double time : ofProgram)
        seconds += time;
    left -= rounds * some;
    next = (next + some) % programs.size();
  }
  return CallTimes{seconds * 1e9,
                   std::chrono::duration<double, std::nano>(Clock::now() - begin).count()};
}

} // namespace kernelforge
