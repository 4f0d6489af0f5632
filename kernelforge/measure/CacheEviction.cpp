#include "kernelforge/measure/CacheEviction.h"

#include "kernelforge/measure/PeakLoops.h"

#include <cstring>

namespace kernelforge {

Expected<CacheEviction> CacheEviction::create(int threads, TeamFn team) {
  CacheEviction eviction;
  eviction.threads = threads;
  eviction.team = std::move(team);
  KF_TRY(eviction.memory, PageMemory::allocate(static_cast<uint64_t>(uncachedBytes())));
  // Written once: pages that nobody wrote are all the same page.
  std::memset(eviction.memory.data(), 1, eviction.memory.size());
  return eviction;
}

void CacheEviction::operator()() const {
  team(threads, [this](int index, int members) {
    const auto share = static_cast<int64_t>(memory.size()) / members / 512 * 512;
    readAll(memory.data() + index * share, share);
  });
}

} // namespace kernelforge
