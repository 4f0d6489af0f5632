// Memory that the tuner fills once and its worker processes read: the inputs of a problem and what
// must come out. A worker maps it read-only, so a candidate that writes into its inputs crashes.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace kernelforge {

/// A block of anonymous memory behind a file descriptor that child processes can inherit.
class SharedData {
public:
  SharedData() = default;
  SharedData(SharedData &&other) noexcept { *this = std::move(other); }
  SharedData &operator=(SharedData &&other) noexcept {
    std::swap(file, other.file);
    std::swap(begin, other.begin);
    std::swap(bytes, other.bytes);
    return *this;
  }
  ~SharedData();

  /// New writable memory. Failed where the system has not that much.
  static Expected<SharedData> create(uint64_t bytes);

  /// What create() made in another process, read-only, of which `descriptor` was inherited.
  static Expected<SharedData> open(int descriptor);

  int descriptor() const { return file; }
  std::byte *data() const { return begin; }
  uint64_t size() const { return bytes; }

private:
  int file = -1;
  std::byte *begin = nullptr;
  uint64_t bytes = 0;
};

/// A buffer that a kernel writes: it ends close to a page that cannot be touched, and the bytes
/// around it are watched.
class GuardedBuffer {
public:
  GuardedBuffer() = default;
  GuardedBuffer(GuardedBuffer &&other) noexcept { *this = std::move(other); }
  GuardedBuffer &operator=(GuardedBuffer &&other) noexcept {
    std::swap(mapping, other.mapping);
    std::swap(mappingBytes, other.mappingBytes);
    std::swap(begin, other.begin);
    std::swap(bytes, other.bytes);
    return *this;
  }
  ~GuardedBuffer();

  static Expected<GuardedBuffer> create(uint64_t bytes);

  std::byte *data() const { return begin; }
  uint64_t size() const { return bytes; }

  /// Fills the buffer with NaN (of any float type) and the guard bytes with their pattern.
  void poison();

  /// Whether the guard bytes still hold what poison() put there.
  bool guardsAreIntact() const;

private:
  std::byte *mapping = nullptr;
  uint64_t mappingBytes = 0;
  std::byte *begin = nullptr;
  uint64_t bytes = 0;
};

} // namespace kernelforge
