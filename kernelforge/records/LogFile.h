// The files under a RecordStore: locking, appending, reading lines. Internal to the room.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

namespace kernelforge {

/// A log is read as a whole, hence bounded: 256 MiB are some 120,000 records.
inline constexpr uint64_t maxLogBytes = uint64_t(256) << 20;

/// An exclusive lock between processes and threads, held until destruction. See RecordStore.h.
class FileLock {
public:
  /// Waits for the lock on `file`, which is created if need be. Failed where it cannot be had.
  static Expected<FileLock> acquire(const std::filesystem::path &file);

  FileLock(FileLock &&other) noexcept : descriptor(std::exchange(other.descriptor, -1)) {}
  FileLock &operator=(FileLock &&other) noexcept {
    std::swap(descriptor, other.descriptor);
    return *this;
  }
  ~FileLock();

private:
  explicit FileLock(int descriptor) : descriptor(descriptor) {}
  int descriptor;
};

/// Appends whole lines to a log, durably, on a line of their own even where the log ends in the
/// middle of one. The lock must be held. A failure leaves the log as it was, if it can.
Status appendToLog(const std::filesystem::path &file, std::string_view lines);

/// A whole log. One that shrinks meanwhile (an append taken back) is read
/// again.
Expected<std::string> readLog(const std::filesystem::path &file);

/// Calls `visit` with each line of `text` that is not empty, without its line break.
template <typename Visit> void forEachLine(std::string_view text, Visit visit) {
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(line.size() < text.size() ? line.size() + 1 : line.size());
    if (!line.empty())
      visit(line);
  }
}

} // namespace kernelforge
