// For tests of what finds slower kernels: a call that takes longer than it has to.
#pragma once

#include "kernelforge/support/Error.h"

#include <functional>

namespace kernelforge {

/// `call`, which takes `factor` times as long. Memory that rests for a moment serves the next call
/// faster, so where `readsMemory` the team's threads read on meanwhile, as a kernel would that
/// reads more than it has to. Failed where memory for that cannot be had.
Expected<std::function<Status()>> slowedCall(std::function<Status()> call, double factor,
                                             bool readsMemory, int threads);

} // namespace kernelforge
