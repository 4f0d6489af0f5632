// Large zeroed buffers straight from the system, on huge pages where it grants them.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace kernelforge {

/// An owned block of zeroed memory, aligned to a page, and where it is large to a huge one. Pages
/// are taken when they are first touched, so they lie near the thread that uses them.
class PageMemory {
public:
  PageMemory() = default;
  PageMemory(PageMemory &&other) noexcept { *this = std::move(other); }
  PageMemory &operator=(PageMemory &&other) noexcept {
    std::swap(mapping, other.mapping);
    std::swap(mappingBytes, other.mappingBytes);
    std::swap(begin, other.begin);
    std::swap(bytes, other.bytes);
    return *this;
  }
  ~PageMemory();

  static constexpr uint64_t hugePage = uint64_t(2) << 20;

  /// Failed where the system has not that much. No bytes are no memory and no error. The first
  /// `small` bytes (below hugePage, rounded up to a page) are on small pages, which are quickly
  /// made when they are first touched.
  static Expected<PageMemory> allocate(uint64_t bytes, uint64_t small = 0);

  /// Lays pages that were not touched yet on these nodes of memory in turn, for what threads of all
  /// of them read alike: each reads at the rate of all nodes together, wherever it runs. Advice
  /// only: where the system does not follow it, or there are fewer than two, nothing changes.
  void spreadOver(std::span<const int> nodes);

  std::byte *data() const { return begin; }
  uint64_t size() const { return bytes; }
  std::span<std::byte> span() const { return {begin, bytes}; }

private:
  void *mapping = nullptr;
  uint64_t mappingBytes = 0;
  std::byte *begin = nullptr;
  uint64_t bytes = 0;
};

} // namespace kernelforge
