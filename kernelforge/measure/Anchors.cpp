#include "kernelforge/measure/Anchors.h"

#include "kernelforge/measure/PeakLoops.h"
#include "kernelforge/support/Host.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

namespace kernelforge {

Expected<std::unique_ptr<HostAnchors>> HostAnchors::create(int threads, TeamFn team,
                                                           double seconds) {
  std::unique_ptr<HostAnchors> anchors(new HostAnchors);
  anchors->threads = threads;
  anchors->team = std::move(team);
  anchors->seconds = seconds;
  for (const PeakLoop &loop : peakLoops())
    anchors->all.emplace_back(loop.name);
  if (threads > 1)
    anchors->all.emplace_back("exchange");
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
    Level level;
    level.name = name;
    level.bytes = bytes;
    for (int thread = 0; thread < threads; ++thread) {
      KF_TRY(PageMemory set, PageMemory::allocate(static_cast<uint64_t>(bytes)));
      level.sets.push_back(std::move(set));
    }
    anchors->all.emplace_back(name);
    anchors->levels.push_back(std::move(level));
  }
  return anchors;
}

bool Anchors::has(std::string_view name) const { return std::ranges::find(all, name) != all.end(); }

std::string_view Anchors::unit(std::string_view name) {
  if (name.starts_with("read_") || name.starts_with("copy_"))
    return "GB/s";
  if (name == "exchange")
    return "M/s";
  return name.ends_with("_int8") ? "GOP/s" : "GFLOP/s";
}

/// Every member waits for the line to come round to it and passes it on. What this costs depends on
/// where the cores are: of one cache, of two, or of two sockets; and a virtual machine's cores may
/// be moved.
double HostAnchors::measureExchange(double stretch) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t rounds = 256; // some ten microseconds: far more than reading the clock
  constexpr int64_t patience = 10'000;
  alignas(128) std::atomic<int64_t> line = 0;
  std::atomic<bool> ends = false;
  double rate = 0;
  team(threads, [&](int index, int members) {
    const auto begin = Clock::now();
    int64_t passes = 0;
    auto look = [&] { // at the clock
      const double spent = std::chrono::duration<double>(Clock::now() - begin).count();
      rate = static_cast<double>(passes * members) / spent / 1e6;
      ends = spent >= stretch;
    };
    for (int64_t turn = index; !ends; turn += members) {
      for (int64_t waits = 0; line.load(std::memory_order_acquire) != turn && !ends; ++waits)
        if (waits > patience) { // someone else runs where the next member should
          std::this_thread::yield();
          if (index == 0)
            look();
        }
      line.store(turn + 1, std::memory_order_release);
      if (index == 0 && ++passes % rounds == 0)
        look();
    }
  });
  return rate;
}

Writing HostAnchors::measureWriting() {
  if (levels.front().name != "read_l1d")
    return {};
  Level &level = levels.front();
  const int64_t repeats = std::max<int64_t>(1, (1 << 18) / level.bytes);
  const std::vector<double> rates = teamRates(team, threads, seconds / 16, [&](int thread) {
    for (int64_t r = 0; r < repeats; ++r)
      writeAll(level.sets[static_cast<size_t>(thread)].data(), level.bytes);
  });
  const double bytes = double(level.bytes) * double(repeats) / 1e9;
  return {rates.front() * bytes, *std::ranges::min_element(rates) * bytes};
}

double HostAnchors::measure(std::string_view name, double part) {
  const double stretch = seconds * part;
  if (name == "exchange")
    return measureExchange(stretch / 4);
  constexpr int64_t iterations = 20'000; // tens of microseconds: far more than reading the clock
  for (const PeakLoop &loop : peakLoops())
    if (name == loop.name)
      return teamRate(team, threads, stretch, [&](int) { loop.run(iterations); }) *
             loop.operationsPerIteration * double(iterations) / 1e9;
  for (Level &level : levels) {
    if (name != level.name)
      continue;
    // Written once: pages that nobody wrote are all the same page. Not before somebody asks: beyond
    // a large cache they take seconds.
    for (size_t i = 0; i < level.sets.size() && !level.isWritten; ++i)
      std::memset(level.sets[i].data(), static_cast<int>(i) + 1, level.sets[i].size());
    level.isWritten = true;
    // A call reads a good part of a megabyte at least, and of a large set a stretch after another,
    // also from one measurement to the next: where a short one was, a cache may hold it.
    constexpr int64_t most = 1 << 20;
    const int64_t repeats = std::max<int64_t>(1, most / level.bytes);
    const int64_t piece = std::min(level.bytes, most);
    level.at.resize(static_cast<size_t>(threads) * 8);
    const double rate = teamRate(team, threads, stretch, [&](int thread) {
      const auto i = static_cast<size_t>(thread);
      int64_t &begin = level.at[8 * i];
      for (int64_t r = 0; r < repeats; ++r)
        readAll(level.sets[i].data() + begin, piece);
      begin = begin + 2 * piece <= level.bytes ? begin + piece : 0;
    });
    return rate * double(piece) * double(repeats) / 1e9;
  }
  return 0;
}

std::string HostAnchors::readingAnchor(double bytes) const {
  for (const Level &level : levels)
    if (bytes / threads <= double(level.bytes) * 1.5)
      return level.name;
  return levels.back().name;
}

} // namespace kernelforge
