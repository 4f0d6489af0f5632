// What a device does at most, measured by kernels that are compiled for it as any others: data
// sheets know nothing of clocks, power limits and drivers.
#pragma once

#include "kernelforge/compiler/Session.h"
#include "kernelforge/measure/Ceilings.h"
#include "kernelforge/support/PageMemory.h"

namespace kernelforge {

class DeviceCeilings {
public:
  /// Compiles what is measured for the target of `options`, on a device of its own. Errors as those
  /// of Session.
  static Expected<std::unique_ptr<DeviceCeilings>> create(SessionOptions options);

  /// Bytes per second where one half of `bytes` (at least a row of 4 KiB, at most mostBytes()) is
  /// read and the other written, again and again for about `seconds`: by a kernel, or by the
  /// device's own copy where that is faster.
  Expected<double> copy(int64_t bytes, double seconds);

  /// Bytes that no cache holds as far as the device is known: as many as mostBytes(), or fewer
  /// where it takes long to copy them.
  Expected<int64_t> uncached();

  /// Seconds that a launch takes which has next to nothing to do, among launches of which each
  /// waits for the one before it.
  Expected<double> launch(double seconds);

  /// Operations per second of a kernel that multiplies and adds f32 in registers, as the code
  /// generator writes that (two operations; whether they become one instruction is the driver's
  /// matter): what code without matrix units reaches. Unusable where the target makes no single
  /// kernel of it: then it is not known.
  Expected<double> multiplyAdds(double seconds);

  const DeviceInfo &device() { return session->device().info(); }
  int64_t mostBytes() const { return 2 * rowBytes * mostRows; }

private:
  static constexpr int64_t rowBytes = 4096;

  DeviceCeilings() = default;
  Expected<double> secondsOf(Session &of, const std::string &function, int64_t rows,
                             double seconds);
  Status prepareArithmetic();

  SessionOptions options;
  std::unique_ptr<Session> session;
  std::unique_ptr<Session> arithmetic; ///< once it was asked for
  int64_t mostRows = 0, arithmeticRows = 0;
  PageMemory input, output;
};

/// What a kernel that moves so many bytes can reach at most now: `device` where that has a clock of
/// its own, or else (null) `threads` of the host's, there of what multiplies in `numerics`.
/// Arithmetic that is not known is 0.
Expected<KernelCeilings> kernelCeilings(DeviceCeilings *device, int64_t bytes, int threads,
                                        const std::atomic<bool> *cancel,
                                        Numerics numerics = Numerics::F32);

} // namespace kernelforge
