// The machine's own ceilings, measured again and again beside what they are to judge: a machine
// that slows down slows both, and their ratio stays.
#pragma once

#include "kernelforge/measure/Ceilings.h"
#include "kernelforge/support/PageMemory.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// GB/s of writing to the first cache. Two threads of one core part its stores between them from
/// the moment that both run, however little the other does: that someone else has the other thread
/// of our core is seen here, and hardly in arithmetic. 0 where the cache is not known.
struct Writing {
  double first = 0;   ///< of the calling thread
  double slowest = 0; ///< of the slowest one
};

/// Ceilings of what kernels run on: of the machine itself (HostAnchors), or of a device with memory
/// of its own. Not to be measured by two threads at once.
class Anchors {
public:
  virtual ~Anchors() = default;

  /// As in reports: "fma_f32", "dot_bf16", "dot_int8", "amx_bf16", "amx_int8", "exchange"
  /// (of two threads or more), "read_l1d", "read_l2", "read_l3", "read_memory", "copy_memory";
  /// those that there are, in this order.
  const std::vector<std::string> &names() const { return all; }
  bool has(std::string_view name) const;

  /// "GFLOP/s", "GOP/s", "M/s" (a million passes of a line) or "GB/s".
  static std::string_view unit(std::string_view name);

  /// The rate of all of it together, in its unit, over one stretch of time: the best of none, so
  /// that it feels what others feel. `part` of the usual stretch. 0 where it cannot be measured.
  virtual double measure(std::string_view name, double part = 1) = 0;

  /// Writing to the first cache, of each thread by itself, over a sixteenth of that stretch.
  virtual Writing measureWriting() { return {}; }

  /// The anchor of memory where a kernel moves `bytes`.
  virtual std::string readingAnchor(double bytes) const = 0;

protected:
  std::vector<std::string> all; ///< the names
};

/// Kinds of arithmetic, passing a cache line from core to core, and reading working sets from each
/// level of memory, on a team of threads.
class HostAnchors final : public Anchors {
public:
  /// `seconds` is how long one measurement takes. Failed where memory cannot be had.
  static Expected<std::unique_ptr<HostAnchors>> create(int threads, TeamFn team,
                                                       double seconds = 0.004);

  double measure(std::string_view name, double part = 1) override;
  Writing measureWriting() override;
  /// Of reading `bytes` that the threads share, of which each level holds what it can.
  std::string readingAnchor(double bytes) const override;

private:
  HostAnchors() = default;
  double measureExchange(double stretch);
  struct Level {
    std::string name;
    int64_t bytes = 0;            ///< of a thread's set
    std::vector<PageMemory> sets; ///< one a thread
    std::vector<int64_t> at;      ///< where each thread reads on, a cache line each
    bool isWritten = false;
  };

  int threads = 1;
  TeamFn team;
  double seconds = 0;
  std::vector<Level> levels;
};

} // namespace kernelforge
