#include "kernelforge/backend/RampUp.h"

namespace kernelforge {

void RampUp::add(Duration now, Duration took) {
  // Noise may slow a turn down, and never speeds one up.
  constexpr double same = 0.95;
  elapsed = now;
  if (least == Duration::zero() || double(took.count()) < same * double(least.count())) {
    least = took;
    fasterSince = now;
  }
}

bool RampUp::isOver() const {
  using std::chrono::milliseconds;
  constexpr milliseconds atLeast(500), unchanged(200), atMost(2000);
  return elapsed >= atMost || (elapsed >= atLeast && elapsed - fasterSince >= unchanged);
}

} // namespace kernelforge
