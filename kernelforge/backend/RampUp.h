// A device that was idle runs slowly at first: when it has stopped becoming faster.
#pragma once

#include <chrono>

namespace kernelforge {

/// Whether a device that repeats the same work still becomes faster.
class RampUp {
public:
  using Duration = std::chrono::steady_clock::duration;

  /// A device that was at work so shortly ago needs no ramp.
  static constexpr Duration idle = std::chrono::seconds(1);

  /// After a turn of work: since the first one began, and how long this one took.
  void add(Duration now, Duration took);
  /// It was at work for half a second and became no faster in the last fifth, or is given up after
  /// two seconds: an H200 takes up to 0.4 s to reach its clock, by steps of 0.15 s.
  bool isOver() const;

private:
  Duration elapsed{0}, fasterSince{0}, least{0};
};

} // namespace kernelforge
