// Programs on this machine's processor: the phases of a run are steps of a team's work (Team.h).
#pragma once

#include "kernelforge/backend/Backend.h"

namespace kernelforge {

struct CpuOptions {
  /// Threads of a run; 0: the physical cores that this process may use.
  int threads = 0;
  /// For tests: before a run all intermediates and results, and before a task its scratch, are
  /// filled with bytes that read as NaN in every floating-point type, so that a kernel that reads
  /// what nobody wrote, or leaves something unwritten, shows.
  bool poison = false;
};

/// The most threads that a run may have.
constexpr int maxThreads = 1024;

/// Unusable where `threads` is negative or above maxThreads.
Expected<std::unique_ptr<Backend>> createCpuBackend(const CpuOptions &options = {});

} // namespace kernelforge
