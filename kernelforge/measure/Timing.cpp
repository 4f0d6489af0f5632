#include "kernelforge/measure/Timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include <sys/resource.h>

namespace kernelforge {

using Clock = std::chrono::steady_clock;

double median(std::vector<double> values) {
  if (values.empty())
    return 0;
  const size_t middle = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + middle, values.end());
  if (values.size() % 2 == 1)
    return values[middle];
  return (values[middle] + *std::max_element(values.begin(), values.begin() + middle)) / 2;
}

double medianAbsoluteDeviation(std::span<const double> values) {
  const double center = median({values.begin(), values.end()});
  std::vector<double> distances;
  for (double value : values)
    distances.push_back(std::abs(value - center));
  return median(std::move(distances));
}

int64_t timesPreempted() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

TimedCalls byHostClock(std::function<Status()> call) {
  return [call = std::move(call)](int64_t calls) -> Expected<CallTimes> {
    const auto start = Clock::now();
    for (int64_t i = 0; i < calls; ++i)
      KF_CHECK(call());
    const double took = std::chrono::duration<double, std::nano>(Clock::now() - start).count();
    return CallTimes{took, took};
  };
}

/// One call that is not counted.
Status TimedCall::callOnce() {
  KF_TRY(CallTimes times, calls(1));
  (void)times;
  return {};
}

static tl::unexpected<Error> interrupted() {
  return makeError(ErrorKind::Interrupted, "interrupted", "timing", "stopped by user");
}

Status TimedCall::start() {
  for (int i = 0; i < options.warmup && (i == 0 || !isTooSlow()); ++i) {
    if (options.cancel && *options.cancel)
      return interrupted();
    KF_TRY(CallTimes took, calls(1));
    spent += took.onHost;
  }
  if (!options.evict)
    KF_CHECK(chooseBatch());
  spent = 0;
  return {};
}

bool TimedCall::wantsMore() const {
  return timing.samples.size() < maxSamples &&
         (timing.samples.size() < static_cast<size_t>(std::max(options.rounds, 1)) ||
          spent < options.minSeconds * 1e9);
}

/// A batch that is looked at in between. What looks leaves something in the first
/// cache: one call of a part is not counted, unless it hardly matters to it.
Expected<CallTimes> TimedCall::timeInParts(const std::function<void()> &watch) {
  constexpr int64_t most = 4;
  constexpr double little = 250'000; // nanoseconds of a call
  const int64_t parts = std::min(most, timing.batch);
  CallTimes took;
  int64_t done = 0;
  for (int64_t part = 1; part <= parts; ++part) {
    watch();
    if (done > 0 && took.taken < little * static_cast<double>(done))
      KF_CHECK(callOnce());
    const int64_t count = timing.batch * part / parts - done;
    KF_TRY(CallTimes ofPart, calls(count));
    took.taken += ofPart.taken;
    took.onHost += ofPart.onHost;
    done += count;
  }
  watch();
  return took;
}

Expected<double> TimedCall::sample(bool settle, const std::function<void()> &watch) {
  constexpr double slowCall = 1e8; // nanoseconds; it needs no company
  if (options.evict)
    options.evict();
  else if (settle && (timing.samples.empty() || timing.samples.back() < slowCall))
    KF_CHECK(callOnce());
  auto take = [&] { return watch ? timeInParts(watch) : calls(timing.batch); };
  KF_TRY(CallTimes took, take());
  // A batch that ends at once was chosen while the threads had lost their cores, for longer than
  // choosing it took.
  if (!options.evict && isTooShort(took.onHost)) {
    KF_CHECK(chooseBatch());
    KF_TRY(took, take());
  }
  timing.samples.push_back(std::max(took.taken / static_cast<double>(timing.batch), 1e-3));
  spent += took.onHost;
  return timing.samples.back();
}

Timing TimedCall::finish() {
  timing.median = median(timing.samples);
  timing.mad = medianAbsoluteDeviation(timing.samples);
  return std::move(timing);
}

/// Whether a batch that kept the host for `took` nanoseconds is too short to be scaled, or to be a
/// sample.
bool TimedCall::isTooShort(double took) const {
  return took < options.batchSeconds * 1e9 / 4 && timing.batch < int64_t(1) << 30;
}

/// Doubles the batch until it is long enough to be scaled, by the shortest of some, so that slow
/// calls (an interrupt, a page fault, threads that lost their cores) do not settle it.
Status TimedCall::chooseBatch() {
  constexpr int again = 6;
  const double wanted = options.batchSeconds * 1e9, longest = 10 * wanted;
  for (;;) {
    KF_TRY(CallTimes first, calls(timing.batch));
    double took = first.onHost;
    double all = took;
    for (int i = 0; i < again && !isTooShort(took) && all < longest; ++i) {
      KF_TRY(CallTimes other, calls(timing.batch));
      took = std::min(took, other.onHost);
      all += other.onHost;
    }
    if (!isTooShort(took)) {
      const double scale = wanted / std::max(took, 1.0);
      timing.batch = std::max<int64_t>(1, std::llround(static_cast<double>(timing.batch) * scale));
      return {};
    }
    timing.batch *= 2;
  }
}

Expected<std::vector<Timing>> measureInRounds(std::span<const TimedCalls> calls,
                                              const TimingOptions &options) {
  std::vector<TimedCall> timed;
  for (const TimedCalls &each : calls) {
    timed.emplace_back(each, options);
    KF_CHECK(timed.back().start());
  }
  const bool settle = options.settleSeconds > 0 && calls.size() > 1;
  bool more = !timed.empty();
  for (size_t round = 0; more; ++round) {
    // All of them go on while one wants more, so that there is a sample of each to compare with.
    for (size_t i = 0; i < timed.size(); ++i) {
      if (options.cancel && *options.cancel)
        return interrupted();
      TimedCall &next = timed[(round + i) % timed.size()];
      if (round > 0 && next.isTooSlow())
        continue;
      if (settle)
        std::this_thread::sleep_for(std::chrono::duration<double>(options.settleSeconds));
      KF_TRY(double took, next.sample(settle));
      (void)took;
    }
    more = std::ranges::any_of(
        timed, [&](const TimedCall &call) { return !call.isTooSlow() && call.wantsMore(); });
  }
  std::vector<Timing> timings;
  for (TimedCall &call : timed)
    timings.push_back(call.finish());
  return timings;
}

Expected<std::vector<Timing>> measureInRounds(std::span<const std::function<Status()>> calls,
                                              const TimingOptions &options) {
  std::vector<TimedCalls> timed;
  for (const std::function<Status()> &call : calls)
    timed.push_back(byHostClock(call));
  return measureInRounds(timed, options);
}

Expected<Timing> measureTime(const std::function<Status()> &call, const TimingOptions &options) {
  KF_TRY(std::vector<Timing> timings, measureInRounds(std::span(&call, 1), options));
  return std::move(timings.front());
}

} // namespace kernelforge
