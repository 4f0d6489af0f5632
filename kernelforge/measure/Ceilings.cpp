#include "kernelforge/measure/Ceilings.h"

#include "kernelforge/measure/PeakLoops.h"
#include "kernelforge/support/Host.h"
#include "kernelforge/support/PageMemory.h"
#include "kernelforge/support/Team.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <numeric>
#include <string_view>
#include <thread>

namespace kernelforge {

using Clock = std::chrono::steady_clock;

static void runThreads(int threads, const std::function<void(int, int)> &member) {
  std::vector<std::jthread> others;
  for (int thread = 1; thread < threads; ++thread)
    others.emplace_back(member, thread, threads);
  member(0, threads);
}

std::vector<double> teamRates(const TeamFn &team, int threads, double seconds,
                              const std::function<void(int)> &work) {
  std::vector<double> rates(static_cast<size_t>(threads));
  std::atomic<int> ready = 0;
  auto member = [&](int thread, int members) {
    work(thread);
    for (++ready; ready < members;)
      std::this_thread::yield();
    const auto begin = Clock::now();
    int64_t calls = 0;
    double spent = 0;
    while (spent < seconds) {
      work(thread);
      ++calls;
      spent = std::chrono::duration<double>(Clock::now() - begin).count();
    }
    rates[static_cast<size_t>(thread)] = static_cast<double>(calls) / spent;
  };
  if (team)
    team(threads, member);
  else
    runThreads(threads, member);
  return rates;
}

double teamRate(const TeamFn &team, int threads, double seconds,
                const std::function<void(int)> &work) {
  const std::vector<double> rates = teamRates(team, threads, seconds, work);
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

/// The best of three: what disturbs a measurement only makes it slower.
static Expected<double> bestRate(const CeilingOptions &options, int threads,
                                 const std::function<void(int)> &work) {
  double best = 0;
  for (int round = 0; round < 3; ++round) {
    if (options.cancel && *options.cancel)
      return makeError(ErrorKind::Interrupted, "interrupted", "ceilings", "stopped by user");
    best = std::max(best, teamRate(options.team, threads, options.seconds, work));
  }
  return best;
}

Expected<std::vector<ArithmeticPeak>> measurePeaks(const CeilingOptions &options) {
  constexpr int64_t iterations = 20'000; // tens of microseconds: far more than reading the clock
  std::vector<ArithmeticPeak> peaks;
  for (const PeakLoop &loop : peakLoops()) {
    const double operations = loop.operationsPerIteration * double(iterations);
    const auto work = [&](int) { loop.run(iterations); };
    ArithmeticPeak peak{loop.name, loop.instruction, 0, 0};
    KF_TRY(double one, bestRate(options, 1, work));
    KF_TRY(double all, bestRate(options, options.threads, work));
    peak.oneCore = one * operations;
    peak.allCores = all * operations;
    peaks.push_back(std::move(peak));
  }
  return peaks;
}

/// Bytes per second of reading `bytes` on each of `threads` threads.
static Expected<double> readRate(const CeilingOptions &options, int threads, int64_t bytes) {
  std::vector<PageMemory> sets;
  for (int thread = 0; thread < threads; ++thread) {
    KF_TRY(PageMemory set, PageMemory::allocate(static_cast<uint64_t>(bytes)));
    // Written once: pages that nobody wrote are all the same page.
    std::memset(set.data(), thread + 1, set.size());
    sets.push_back(std::move(set));
  }
  // A call reads 4 MiB at least: on some virtual machines reading the clock takes microseconds.
  const int64_t repeats = std::max<int64_t>(1, (4 << 20) / bytes);
  KF_TRY(double rate, bestRate(options, threads, [&](int thread) {
           for (int64_t i = 0; i < repeats; ++i)
             readAll(sets[static_cast<size_t>(thread)].data(), bytes);
         }));
  return rate * double(bytes) * double(repeats);
}

Expected<std::vector<ReadBandwidth>> measureReadBandwidth(const CeilingOptions &options) {
  const Host &machine = host();
  const int64_t threads = options.threads;
  const int64_t memorySet = std::min(std::max<int64_t>(4 * machine.l3Bytes, 256 << 20),
                                     std::max<int64_t>(machine.memoryBytes / 4, 64 << 20));
  struct Level {
    const char *name;
    int64_t one, each; ///< bytes of a set where one core reads, where all do
  };
  const Level levels[] = {{"l1d", machine.l1dBytes / 2, machine.l1dBytes / 2},
                          {"l2", machine.l2Bytes / 2, machine.l2Bytes / 2},
                          {"l3", machine.l3Bytes / 2, machine.l3Bytes / 2 / threads},
                          {"memory", memorySet, memorySet / threads}};
  std::vector<ReadBandwidth> rates;
  for (const Level &level : levels) {
    const int64_t one = level.one / 512 * 512, each = level.each / 512 * 512;
    if (one == 0 || each == 0)
      continue; // the system does not tell of such a cache
    ReadBandwidth rate{level.name, one, 0, 0};
    KF_TRY(rate.oneCore, readRate(options, 1, one));
    KF_TRY(rate.allCores, readRate(options, options.threads, each));
    rates.push_back(std::move(rate));
  }
  return rates;
}

namespace {

/// Steps of as many tasks as there are threads, all of the same time: long enough that each thread
/// comes for one, where of empty tasks the caller does them all. They end after some seconds.
class EqualTasks : public SteppedWork {
public:
  static constexpr std::chrono::microseconds each{10};

  EqualTasks(int threads, size_t count, const std::function<bool()> &goesOn)
      : threads(threads), count(count), goesOn(goesOn) {}

  size_t steps() const override { return count; }
  int64_t tasks(size_t) const override { return threads; }
  void run(size_t, int64_t, int) override {
    for (const auto begin = Clock::now(); Clock::now() - begin < each;)
      ;
  }
  bool completed(size_t) override {
    ends.push_back(Clock::now());
    return goesOn();
  }

  std::vector<Clock::time_point> ends; ///< of the steps so far

private:
  int threads;
  size_t count;
  const std::function<bool()> &goesOn;
};

} // namespace

/// The middle one of some times less that of a task; 0 where they are as short as that.
static double medianBeyondTask(std::vector<double> seconds) {
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::ranges::nth_element(seconds, middle);
  return std::max(0.0, *middle - std::chrono::duration<double>(EqualTasks::each).count());
}

Expected<TeamOverhead> measureTeamOverhead(const CeilingOptions &options) {
  auto since = [](Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  auto isCancelled = [&] { return options.cancel && *options.cancel; };
  // Of each kind at least a few, and as many as fit into the time.
  constexpr size_t fewest = 20, most = 100'000;
  const std::function<bool()> always = [] { return true; };
  std::vector<double> runs, steps;
  const auto first = Clock::now();
  while (!isCancelled() && (runs.size() < fewest || since(first) < options.seconds)) {
    EqualTasks once(options.threads, 1, always);
    const auto begin = Clock::now();
    runSteps(options.threads, once);
    runs.push_back(since(begin));
  }
  const auto second = Clock::now();
  size_t done = 0;
  const std::function<bool()> goesOn = [&] {
    return !isCancelled() && (++done < fewest || since(second) < options.seconds);
  };
  EqualTasks many(options.threads, most, goesOn);
  if (!isCancelled())
    runSteps(options.threads, many);
  if (isCancelled())
    return makeError(ErrorKind::Interrupted, "interrupted", "ceilings", "stopped by user");
  for (size_t i = 1; i < many.ends.size(); ++i)
    steps.push_back(std::chrono::duration<double>(many.ends[i] - many.ends[i - 1]).count());
  return TeamOverhead{medianBeyondTask(std::move(runs)), medianBeyondTask(std::move(steps))};
}

int64_t uncachedBytes() {
  constexpr int64_t least = 64 << 20, most = 256 << 20;
  return std::clamp(4 * host().l3Bytes, least, most);
}

std::span<const std::string_view> arithmeticOf(Numerics numerics) {
  static constexpr std::string_view bytes[] = {"dot_int8", "fma_f32"},
                                    pairs[] = {"amx_bf16", "dot_bf16", "fma_f32"},
                                    floats[] = {"fma_f32"};
  if (numerics == Numerics::I8)
    return bytes;
  if (numerics == Numerics::BF16)
    return pairs;
  return floats;
}

Expected<KernelCeilings> measureKernelCeilings(int64_t bytes, const CeilingOptions &options,
                                               Numerics numerics) {
  constexpr int64_t iterations = 20'000, line = 512;
  KernelCeilings ceilings;
  const auto has = [](std::string_view name) {
    return std::ranges::any_of(peakLoops(),
                               [&](const PeakLoop &loop) { return loop.name == name; });
  };
  const auto kinds = arithmeticOf(numerics);
  if (const auto found = std::ranges::find_if(kinds, has); found != kinds.end())
    ceilings.arithmetic = *found;
  for (const PeakLoop &loop : peakLoops())
    if (loop.name == ceilings.arithmetic) {
      KF_TRY(double rate, bestRate(options, options.threads, [&](int) { loop.run(iterations); }));
      ceilings.fma = rate * loop.operationsPerIteration * double(iterations);
    }
  // Never less than a page each: a working set of a few bytes is read by the call overhead.
  const int64_t share =
      std::max<int64_t>(4096, std::min(bytes, uncachedBytes()) / options.threads / line * line);
  KF_TRY(ceilings.read, readRate(options, options.threads, share));
  return ceilings;
}

} // namespace kernelforge
