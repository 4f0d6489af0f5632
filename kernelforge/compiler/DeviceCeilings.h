// What a device does at most, measured by kernels that are compiled for it as any others: data
// sheets know nothing of clocks, power limits and drivers.
#pragma once

#include "kernelforge/compiler/Session.h"
#include "kernelforge/support/PageMemory.h"

namespace kernelforge {

class DeviceCeilings {
public:
  /// Compiles what is measured for the target of `options`, on a device of its own. Errors as those
  /// of Session.
  static Expected<std::unique_ptr<DeviceCeilings>> create(SessionOptions options);

  /// Bytes per second of a kernel that reads one half of `bytes` (at least a row of 4 KiB, at most
  /// mostBytes()) and writes the other, again and again for about `seconds`.
  Expected<double> copy(int64_t bytes, double seconds);

  /// Bytes that no cache holds as far as the device is known: as many as mostBytes(), or fewer
  /// where it takes long to copy them.
  Expected<int64_t> uncached();

  /// Seconds that a launch takes which has next to nothing to do, among launches of which each
  /// waits for the one before it.
  Expected<double> launch(double seconds);

  const DeviceInfo &device() { return session->device().info(); }
  int64_t mostBytes() const { return 2 * rowBytes * mostRows; }

private:
  static constexpr int64_t rowBytes = 4096;

  DeviceCeilings() = default;
  Expected<double> secondsOf(const std::string &function, int64_t rows, double seconds);

  std::unique_ptr<Session> session;
  int64_t mostRows = 0;
  PageMemory input, output;
};

} // namespace kernelforge
