// How many threads there may be.
#pragma once

namespace kernelforge {

/// The most threads that a run may have.
constexpr int maxThreads = 1024;

} // namespace kernelforge
