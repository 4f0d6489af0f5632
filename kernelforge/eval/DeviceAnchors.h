// Ceilings of a device with memory and a clock of its own, as a suite's report has them.
#pragma once

#include "kernelforge/measure/Anchors.h"
#include "kernelforge/problem/DeviceCeilings.h"

namespace kernelforge {

/// "fma_f32": multiplications and additions of f32 as the code generator writes them;
/// "copy_memory": reading and writing what no cache holds.
class DeviceAnchors final : public Anchors {
public:
  /// Errors as those of DeviceCeilings.
  static Expected<std::unique_ptr<DeviceAnchors>> create(SessionOptions options);

  double measure(std::string_view name, double part = 1) override;
  std::string readingAnchor(double bytes) const override { return "copy_memory"; }

  /// Empties the device's caches.
  void evict() { measure("copy_memory", 0); }

private:
  DeviceAnchors() = default;

  std::unique_ptr<DeviceCeilings> ceilings;
  int64_t bytes = 0; ///< that are copied
};

} // namespace kernelforge
