// One line on the terminal that says how far long work is; nothing where standard error is none.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace kernelforge {

class Progress {
public:
  /// `what` is shown before the figures. With `total` 0 only what is done so far is shown.
  Progress(std::string what, int64_t total);
  Progress(const Progress &) = delete;
  Progress &operator=(const Progress &) = delete;
  /// Takes the line away.
  ~Progress();

  /// Redraws the line, ten times a second at most.
  void update(int64_t done);

  /// Whether progress is shown at all.
  static bool isShown();

private:
  std::string what;
  int64_t total;
  std::chrono::steady_clock::time_point drawn;
};

} // namespace kernelforge
