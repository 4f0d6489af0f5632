// What a candidate writes on a device with memory of its own.
#pragma once

#include "kernelforge/backend/Device.h"

#include <map>

namespace kernelforge {

/// Pieces of a device's memory that a run writes, each with bytes around it that are watched, and
/// memory of the host that they come from and go to.
class DeviceOutputs {
public:
  explicit DeviceOutputs(Device &device) : device(device) {}

  /// A piece with the bytes of `host`, which must stay; the same one where `host` has one already.
  Expected<BufferRef> place(std::span<std::byte> host);

  /// Brings what the device wrote to the host; whether nothing was written beside it.
  Expected<bool> fetch();

private:
  struct Piece {
    BufferRef whole;
    std::span<std::byte> host;
  };

  int64_t margin() const;

  Device &device;
  std::map<const std::byte *, Piece> pieces;
};

} // namespace kernelforge
