#include "kernelforge/measure/Anchors.h"

#include "kernelforge/measure/PeakLoops.h"
#include "kernelforge/support/Host.h"

#include <cstring>

namespace kernelforge {

Expected<std::unique_ptr<Anchors>> Anchors::create(int threads, TeamFn team, double seconds) {
  std::unique_ptr<Anchors> anchors(new Anchors);
  anchors->threads = threads;
  anchors->team = std::move(team);
  anchors->seconds = seconds;
  for (const PeakLoop &loop : peakLoops())
    anchors->all.emplace_back(loop.name);
  const Host &machine = host();
  // Half of a cache: what else a kernel needs also wants room. The last level is shared.
  const std::pair<const char *, int64_t> sets[] = {{"read_l1d", machine.l1dBytes / 2},
                                                   {"read_l2", machine.l2Bytes / 2},
                                                   {"read_l3", machine.l3Bytes / 2 / threads},
                                                   {"read_memory", uncachedBytes() / threads}};
  int64_t before = 0;
  for (const auto &[name, size] : sets) {
    const int64_t bytes = size / 512 * 512;
    if (bytes <= before) // the system tells of no such cache, or it is no larger for each thread
      continue;
    before = bytes;
    Level level{name, bytes, {}};
    for (int thread = 0; thread < threads; ++thread) {
      KF_TRY(PageMemory set, PageMemory::allocate(static_cast<uint64_t>(bytes)));
      // Written once: pages that nobody wrote are all the same page.
      std::memset(set.data(), thread + 1, set.size());
      level.sets.push_back(std::move(set));
    }
    anchors->all.emplace_back(name);
    anchors->levels.push_back(std::move(level));
  }
  return anchors;
}

std::string_view Anchors::unit(std::string_view name) {
  if (name.starts_with("read_"))
    return "GB/s";
  return name == "fma_f32" ? "GFLOP/s" : "GOP/s";
}

double Anchors::measure(std::string_view name) const {
  constexpr int64_t iterations = 20'000; // tens of microseconds: far more than reading the clock
  for (const PeakLoop &loop : peakLoops())
    if (name == loop.name)
      return teamRate(team, threads, seconds, [&](int) { loop.run(iterations); }) *
             loop.operationsPerIteration * double(iterations) / 1e9;
  for (const Level &level : levels) {
    if (name != level.name)
      continue;
    // A call reads a good part of a megabyte at least, and of a large set a stretch after another.
    constexpr int64_t stretch = 1 << 20;
    const int64_t repeats = std::max<int64_t>(1, stretch / level.bytes);
    const int64_t part = std::min(level.bytes, stretch);
    std::vector<int64_t> at(static_cast<size_t>(threads) * 8); // a cache line each
    const double rate = teamRate(team, threads, seconds, [&](int thread) {
      const auto i = static_cast<size_t>(thread);
      int64_t &begin = at[8 * i];
      for (int64_t r = 0; r < repeats; ++r)
        readAll(level.sets[i].data() + begin, part);
      begin = begin + 2 * part <= level.bytes ? begin + part : 0;
    });
    return rate * double(part) * double(repeats) / 1e9;
  }
  return 0;
}

std::string Anchors::readingAnchor(double bytes) const {
  for (const Level &level : levels)
    if (bytes / threads <= double(level.bytes) * 1.5)
      return level.name;
  return levels.back().name;
}

} // namespace kernelforge
