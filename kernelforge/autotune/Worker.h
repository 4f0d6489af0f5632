// The process in which candidates run: one that crashes, hangs or writes out of bounds takes only
// this process with it. It compiles nothing; it gets object code and runs it on the data of one
// problem.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstdint>

namespace kernelforge {

/// The descriptor of the problem's SharedData, which a worker inherits.
inline constexpr int workerData = 3;

/// How many copies of what a call reads, `bytes` each, timed calls take turns on, so that they read
/// `streamBytes` before the first comes again; 1 where it reads nothing.
uint64_t turnsOf(uint64_t bytes, uint64_t streamBytes, bool onDevice);

/// Serves the tuner that started this process until it goes away. What `kernelforge tune-worker`
/// runs.
Status runWorker();

} // namespace kernelforge
