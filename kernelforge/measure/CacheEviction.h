// Empties the caches, so that a call can be timed as the first one of a program.
#pragma once

#include "kernelforge/measure/Ceilings.h"
#include "kernelforge/support/PageMemory.h"

namespace kernelforge {

/// Walks through more memory than the caches hold, on all threads of a team.
class CacheEviction {
public:
  /// Failed where memory cannot be had.
  static Expected<CacheEviction> create(int threads, TeamFn team);

  void operator()() const;

private:
  CacheEviction() = default;
  PageMemory memory;
  int threads = 1;
  TeamFn team;
};

} // namespace kernelforge
