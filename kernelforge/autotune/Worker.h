// The process in which candidates run: one that crashes, hangs or writes out of bounds takes only
// this process with it. It compiles nothing; it gets object code and runs it on the data of one
// problem.
#pragma once

#include "kernelforge/support/Error.h"

namespace kernelforge {

/// Inherited descriptors of a worker.
inline constexpr int workerSocket = 3, workerData = 4;

/// Serves the tuner at the other end of `socket` until it goes away; `data` is a SharedData. What
/// `kernelforge tune-worker` runs.
Status runWorker(int socket, int data);

} // namespace kernelforge
