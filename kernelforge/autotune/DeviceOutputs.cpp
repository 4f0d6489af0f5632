#include "kernelforge/autotune/DeviceOutputs.h"

#include <algorithm>

namespace kernelforge {

static constexpr std::byte pattern{0xa5};

/// Devices write whole words: what lies in the last one with an output is not watched.
static constexpr int64_t wordBytes = 4;

/// Bytes before a piece and after it: on the device's alignment.
int64_t DeviceOutputs::margin() const {
  return std::max<int64_t>(device.info().limits.bufferAlignment, 256);
}

Expected<BufferRef> DeviceOutputs::place(std::span<std::byte> host) {
  const auto bytes = static_cast<int64_t>(host.size());
  auto found = pieces.find(host.data());
  if (found == pieces.end()) {
    std::vector<std::byte> around(static_cast<size_t>(2 * margin() + bytes), pattern);
    std::ranges::copy(host, around.begin() + margin());
    KF_TRY(BufferRef whole,
           device.allocate(static_cast<int64_t>(around.size()), MemoryUse::Transfer));
    KF_CHECK(device.upload(around, whole));
    found = pieces.emplace(host.data(), Piece{std::move(whole), host}).first;
  }
  const BufferRef &whole = found->second.whole;
  return BufferRef{whole.memory, whole.offset + margin(), bytes};
}

Expected<bool> DeviceOutputs::fetch() {
  bool intact = true;
  for (auto &[place, piece] : pieces) {
    std::vector<std::byte> around(static_cast<size_t>(piece.whole.bytes));
    KF_TRY(const Ticket ticket, device.download(piece.whole, around));
    KF_CHECK(device.wait(ticket));
    const auto begin = around.begin() + margin();
    const auto end = begin + static_cast<ptrdiff_t>(piece.host.size());
    std::copy(begin, end, piece.host.begin());
    const auto isPattern = [](std::byte value) { return value == pattern; };
    const int64_t inWord = (wordBytes - (end - begin) % wordBytes) % wordBytes;
    intact &= std::all_of(around.begin(), begin, isPattern) &&
              std::all_of(end + inWord, around.end(), isPattern);
  }
  return intact;
}

} // namespace kernelforge
