// This machine's processor as a device: the phases of a program are steps of a team's work
// (support/Team.h). A kernel's entry has the signature
//     void entry(void *const *args, const int64_t *sizes, int64_t phase, int64_t task,
//                void *scratch)
// with args the buffers and workspaces of a launch in order, and sizes the kernel's sizes.
#pragma once

#include "kernelforge/backend/Device.h"
#include "kernelforge/support/Threads.h"

namespace kernelforge {

struct CpuOptions {
  /// Threads of a run; 0: the physical cores that this process may use.
  int threads = 0;
  /// For tests: before a run all intermediates and results, and before a task its scratch, are
  /// filled with bytes that read as NaN in every floating-point type, so that a kernel that reads
  /// what nobody wrote, or leaves something unwritten, shows.
  bool poison = false;
};

/// A device with a team of that many threads. Runs of its programs follow each other, whichever
/// threads submit them, and are over when submit() returns. Unusable where `threads` is negative or
/// above maxThreads.
Expected<std::unique_ptr<Device>> createCpuDevice(const CpuOptions &options = {});

} // namespace kernelforge
