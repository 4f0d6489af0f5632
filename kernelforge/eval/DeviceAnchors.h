// Ceilings of a device with memory and a clock of its own, as a suite's report has them.
#pragma once

#include "kernelforge/compiler/DeviceCeilings.h"
#include "kernelforge/measure/Anchors.h"

namespace kernelforge {

/// "copy_memory": reading and writing what no cache holds. What arithmetic can reach is not
/// measured: no kernel that is compiled for these devices so far is bound by nothing else.
class DeviceAnchors final : public Anchors {
public:
  /// Errors as those of DeviceCeilings.
  static Expected<std::unique_ptr<DeviceAnchors>> create(SessionOptions options);

  double measure(std::string_view name, double part = 1) override;
  std::string readingAnchor(double bytes) const override { return all.front(); }

  /// Empties the device's caches.
  void evict() { measure(all.front(), 0); }

private:
  DeviceAnchors() = default;

  std::unique_ptr<DeviceCeilings> ceilings;
  int64_t bytes = 0; ///< that are copied
};

} // namespace kernelforge
