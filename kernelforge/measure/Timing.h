// How long a call takes, told honestly: batches long enough for the clock, warmed up, every sample
// kept, the median and the median absolute deviation as summary.
#pragma once

#include "kernelforge/support/Error.h"

#include <atomic>
#include <functional>
#include <span>
#include <vector>

namespace kernelforge {

/// What some calls took together, in nanoseconds.
struct CallTimes {
  double taken = 0;  ///< by the clock that counts
  double onHost = 0; ///< of the host's time, waiting included: how many calls make a batch
};

/// Makes so many calls and tells what they took.
using TimedCalls = std::function<Expected<CallTimes>(int64_t calls)>;

/// Calls whose time is the host's.
TimedCalls byHostClock(std::function<Status()> call);

struct TimingOptions {
  double minSeconds = 0.5;                   ///< measure at least this long
  int rounds = 10;                           ///< and take at least this many samples
  int warmup = 3;                            ///< calls before the first sample
  double batchSeconds = 0.01;                ///< a sample is as many calls as take about this long
  double mostSeconds = 0;                    ///< a call that took longer in all sits out; 0: none
  double settleSeconds = 0;                  ///< idle time before each of several calls' batches
  std::function<void()> evict = {};          ///< where set, called before each sample of one call
  const std::atomic<bool> *cancel = nullptr; ///< where true: Interrupted
};

struct Timing {
  std::vector<double> samples; ///< nanoseconds of one call, one per batch
  int64_t batch = 1;           ///< calls of a sample
  double median = 0;           ///< nanoseconds
  double mad = 0;              ///< median absolute deviation, nanoseconds
};

/// The most samples that are kept.
inline constexpr size_t maxSamples = 10'000;

/// How often a thread of this process had to leave a core to somebody else while it wanted to run.
int64_t timesPreempted();

/// One call that is timed sample by sample, as whoever measures several wants.
class TimedCall {
public:
  TimedCall(TimedCalls calls, TimingOptions options)
      : calls(std::move(calls)), options(std::move(options)) {}
  /// Of calls by the host's clock.
  TimedCall(std::function<Status()> call, TimingOptions options)
      : TimedCall(byHostClock(std::move(call)), std::move(options)) {}

  /// Warms up and finds the size of a batch. Before the first sample.
  Status start();

  /// Takes a sample: nanoseconds of one call. Where `settle`, one call goes ahead that is not
  /// counted, unless calls take a tenth of a second. A batch that turns out far too short is chosen
  /// anew. `watch` is called before and after the sample, and where calls are not single also at
  /// three places within it, so that what it measures is what the sample felt.
  Expected<double> sample(bool settle, const std::function<void()> &watch = {});

  bool isTooSlow() const { return options.mostSeconds > 0 && spent > options.mostSeconds * 1e9; }
  bool wantsMore() const;
  int64_t batch() const { return timing.batch; }

  /// What was measured.
  Timing finish();

private:
  bool isTooShort(double took) const;
  Status chooseBatch();
  Status callOnce();
  Expected<CallTimes> timeInParts(const std::function<void()> &watch);

  TimedCalls calls;
  TimingOptions options;
  Timing timing;
  double spent = 0; ///< nanoseconds of the host's time
};

/// Calls `call` until the options are met. Its first error ends the measurement.
Expected<Timing> measureTime(const std::function<Status()> &call,
                             const TimingOptions &options = {});

/// Measures several calls in rounds: one batch of each a round, the order rotating, so that what
/// drifts hits all alike. Sample i of each is of round i; calls that sit out have fewer. The
/// options hold for each call; where it idles between calls, threads of one that still spin do not
/// slow the next, and one call goes ahead that is not counted.
Expected<std::vector<Timing>> measureInRounds(std::span<const TimedCalls> calls,
                                              const TimingOptions &options = {});

/// The same of calls by the host's clock.
Expected<std::vector<Timing>> measureInRounds(std::span<const std::function<Status()>> calls,
                                              const TimingOptions &options = {});

/// Middle value, or the mean of the two; 0 where there are none.
double median(std::vector<double> values);

/// Median of the distances from the median.
double medianAbsoluteDeviation(std::span<const double> values);

} // namespace kernelforge
