// The process in which candidates run: one that crashes, hangs or writes out of bounds takes only
// this process with it. It compiles nothing; it gets object code and runs it on the data of one
// problem.
#pragma once

#include "kernelforge/support/Error.h"

namespace kernelforge {

/// The descriptor of the problem's SharedData, which a worker inherits.
inline constexpr int workerData = 3;

/// Serves the tuner that started this process until it goes away. What `kernelforge tune-worker`
/// runs.
Status runWorker();

} // namespace kernelforge
