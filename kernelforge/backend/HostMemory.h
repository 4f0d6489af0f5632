// What devices share whose memory is the host's: nothing is copied, and all is over at once.
#pragma once

#include "kernelforge/backend/Device.h"

namespace kernelforge {

class HostMemoryDevice : public Device {
public:
  /// Unusable where a program needs what these devices have not: workspaces that stay,
  /// tensor maps.
  static Status checkLaunchings(const Program &program);

  Expected<BufferRef> allocate(int64_t bytes, MemoryUse use) override;
  Expected<BufferRef> import(std::span<const std::byte> bytes, MemoryUse use,
                             std::shared_ptr<const void> owner) override;
  Expected<Ticket> upload(std::span<const std::byte> from, const BufferRef &to) override;
  Expected<Ticket> download(const BufferRef &from, std::span<std::byte> to) override;
  Status wait(Ticket ticket) override { return {}; }
  Expected<std::vector<std::vector<double>>> time(std::span<BoundProgram *const> programs,
                                                  std::span<const int64_t> sizes,
                                                  int rounds) override;

private:
  std::atomic<uint64_t> caches = 0; ///< how many were allocated
};

} // namespace kernelforge
