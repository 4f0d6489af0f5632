#include "kernelforge/support/Progress.h"

#include <cstdio>
#include <fmt/format.h>
#include <unistd.h>

namespace kernelforge {

namespace {

constexpr std::chrono::milliseconds redrawAfter(100);

void draw(const std::string &line) {
  fmt::print(stderr, "\r\x1b[K{}", line); // back to the line's beginning, and clear it
  std::fflush(stderr);
}

} // namespace

bool Progress::isShown() {
  static const bool isTerminal = isatty(STDERR_FILENO) == 1;
  return isTerminal;
}

Progress::Progress(std::string what, int64_t total) : what(std::move(what)), total(total) {
  if (isShown())
    draw(this->what + " ...");
}

Progress::~Progress() {
  if (isShown())
    draw("");
}

void Progress::update(int64_t done) {
  const auto now = std::chrono::steady_clock::now();
  if (!isShown() || now - drawn < redrawAfter)
    return;
  drawn = now;
  draw(total > 0 ? fmt::format("{} {}/{} ({} %)", what, done, total, done * 100 / total)
                 : fmt::format("{} {}", what, done));
}

} // namespace kernelforge
