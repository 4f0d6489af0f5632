// This machine as a measurement has to describe it and as thread counts and cache blocking need
// it: processor, usable cores, caches, memory, operating system.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace kernelforge {

/// Facts about one machine. A number that the system does not tell is 0, a text "unknown".
struct Host {
  std::string cpu;       ///< model name, e.g. "AMD EPYC 9575F"
  std::string vendor;    ///< e.g. "AuthenticAMD"
  std::string cpuModel;  ///< "AuthenticAMD family 26 model 2 stepping 1, AMD EPYC 9575F"
  int logicalCpus = 1;   ///< hardware threads in this process's affinity mask
  int physicalCores = 1; ///< distinct cores among them, no more than the control group's quota
  /// The first usable CPU of each distinct core; a quota takes none away.
  std::vector<int> coreCpus;
  std::vector<int> memoryNodes; ///< numbers of the nodes of memory that usable CPUs belong to
  int64_t l1dBytes = 0;         ///< of one core
  int64_t l2Bytes = 0;          ///< of one core, or of the cores that share it
  int64_t l3Bytes = 0;          ///< of the cores that share it
  int64_t memoryBytes = 0;      ///< of the machine, or the control group's limit where that is less
  std::string os;               ///< distribution and kernel, one line
};

/// The machine that this process runs on; read once.
const Host &host();

/// As host(), from the /proc, /sys and /etc under `root`, for a process that may use the CPUs
/// `usable` (numbers as in /sys/devices/system/cpu). Never fails: see Host.
Host readHost(const std::filesystem::path &root, std::span<const int> usable);

/// The CPUs in this thread's affinity mask, ascending; never empty.
std::vector<int> usableCpus();

/// Makes the calling thread stay on these CPUs. Whether the system allowed it.
bool stayOnCpus(std::span<const int> cpus);

} // namespace kernelforge
