#include "kernelforge/backend/FreeMemory.h"

#include "kernelforge/support/Host.h"

#include <fmt/format.h>

using namespace kernelforge;

Expected<FreeMemory> kernelforge::freeMemory(const Device &device) {
  if (!device.info().sharesHostMemory) {
    KF_TRY(const int64_t bytes, device.freeBytes());
    if (bytes > 0)
      return FreeMemory{bytes, fmt::format("{} has {} free", device.info().name, bytes)};
  }
  return FreeMemory{host().memoryBytes, fmt::format("this machine has {}", host().memoryBytes)};
}
