// What code is generated for, and what a device says of itself: plain values, for every target.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// What bounds the code of a target. 0: does not apply, or is not known.
struct Limits {
  int64_t workers = 0;     ///< threads of a CPU, multiprocessors of a GPU
  int64_t vectorBits = 0;  ///< widest vector register of a CPU
  int64_t sharedBytes = 0; ///< shared memory of a block
  int64_t registers = 0;   ///< of a thread, 32 bits wide
  int64_t threadsPerBlock = 0;
  int64_t subgroupMin = 0; ///< threads that run in step
  int64_t subgroupMax = 0;
  int64_t blocksPerDimension = 0;
  int64_t bufferAlignment = 1; ///< bytes: of where a parameter may begin in memory
  int64_t bindings = 0;        ///< buffers that one phase can have
  int64_t bindingBytes = 0;    ///< of one buffer
  int64_t memoryBytes = 0;     ///< of the device
  int64_t indexBits = 64;      ///< of what indexes a buffer

  bool operator==(const Limits &) const = default;
};

/// The exact machine that code is generated for. Made by a code generator's parse() only.
struct Target {
  std::string kind;                  ///< cpu, cuda, webgpu or reference
  std::string triple;                ///< LLVM's, where there is one
  std::string chip;                  ///< "znver4", "sm_90a"
  std::vector<std::string> features; ///< "+x" or "-x", in order, beyond what the chip implies
  std::vector<std::string> enabled;  ///< every feature that is on, implied ones too; sorted
  Limits limits;
  /// DeviceInfo::identity() of the device that it was made for; empty: none was asked. Measurements
  /// belong to it; code does not depend on it.
  std::string device = {};

  /// Whether a feature is on, by its name without sign ("avx512f").
  bool has(std::string_view feature) const;

  /// `features` as LLVM and the command line take them: "+a,-b".
  std::string featureString() const;

  /// Everything that changes the code of a kernel with its schedule. Limits only change which
  /// kernels and schedules there are.
  std::string key() const;
};

/// What a device says of itself. `native` targets are parsed against it.
struct DeviceInfo {
  std::string kind; ///< of the targets that it runs
  std::string name; ///< for people: "NVIDIA H200", "llvmpipe (LLVM 15.0.6, 256 bits)"
  std::string chip;
  std::string driver; ///< its name and version; empty: none
  std::vector<std::string> features;
  Limits limits;
  bool software = false;         ///< a GPU emulated by the processor: right, and not for timing
  bool sharesHostMemory = false; ///< memory of the host can be imported without a copy
  bool callsLibraries = false;   ///< artifacts that are library calls (LibraryCall)

  /// Whether runs go on after they were submitted, so that only the device knows how long they
  /// take. Otherwise they are calls, which the host's clock times.
  bool hasOwnClock() const { return !sharesHostMemory; }

  /// What may be compared was measured on devices of one identity: the name, and the driver, which
  /// finishes the code.
  std::string identity() const { return driver.empty() ? name : name + ", " + driver; }
};

} // namespace kernelforge
