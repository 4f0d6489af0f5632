// What the library of ProcAddress.cpp does otherwise than the wgpu-native that it is over. It is
// looked at when a device is made; exported as `kernelforgeLacking`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct Lacking {
  bool timestamps = true; ///< time is told by the host's clock then
  bool f16 = false, subgroups = false, packedDot = false;
  uint64_t bindingBytes = 0; ///< the most that its adapter says that can be bound; 0: its own

  /// It looks like Dawn, with the functions and structures that only Dawn has, and with matrices.
  bool isDawn = false;
  bool knowsMatrices = true; ///< whether its shaders may use them
  /// Toggles that were chained: for the instance, the adapter and the device, "-" before those that
  /// were disabled.
  std::vector<std::vector<std::string>> toggles;
};
