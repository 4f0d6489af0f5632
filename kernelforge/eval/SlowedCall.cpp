#include "kernelforge/eval/SlowedCall.h"

#include "kernelforge/measure/Ceilings.h"
#include "kernelforge/measure/PeakLoops.h"
#include "kernelforge/support/PageMemory.h"
#include "kernelforge/support/Team.h"

#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

using namespace kernelforge;

using Clock = std::chrono::steady_clock;

namespace {

/// Memory that each thread reads on in, from where it was.
class Reading {
public:
  static Expected<std::shared_ptr<Reading>> create(int threads) {
    auto reading = std::make_shared<Reading>();
    const uint64_t bytes = static_cast<uint64_t>(uncachedBytes()) / part * part;
    for (int thread = 0; thread < threads; ++thread) {
      KF_TRY(PageMemory set, PageMemory::allocate(bytes));
      std::memset(set.data(), thread + 1, set.size()); // pages that nobody wrote are all the same
      reading->sets.push_back({std::move(set), 0});
    }
    return reading;
  }

  void until(Clock::time_point end) {
    runTeam(static_cast<int>(sets.size()), [&](int thread, int) {
      Set &own = sets[static_cast<size_t>(thread)];
      while (Clock::now() < end) {
        readAll(own.memory.data() + own.at, part);
        own.at = (own.at + part) % own.memory.size();
      }
    });
  }

private:
  static constexpr uint64_t part = 1 << 16; // some microseconds
  struct alignas(128) Set {
    PageMemory memory;
    uint64_t at = 0;
  };
  std::vector<Set> sets;
};

} // namespace

Expected<std::function<Status()>> kernelforge::slowedCall(std::function<Status()> call,
                                                          double factor, bool readsMemory,
                                                          int threads) {
  std::shared_ptr<Reading> reading;
  if (readsMemory) {
    KF_TRY(reading, Reading::create(threads));
  }
  return [call = std::move(call), factor, reading]() -> Status {
    const auto begin = Clock::now();
    KF_CHECK(call());
    const auto took = Clock::now() - begin;
    const auto end = begin + std::chrono::duration_cast<Clock::duration>(took * factor);
    if (reading)
      reading->until(end);
    while (Clock::now() < end) {
    }
    return {};
  };
}
