// Kernels of the tests of the backend: written in LLVM's dialect, compiled for this machine.
#pragma once

#include "kernelforge/backend/Program.h"

#include <string>

namespace kernelforge {

/// An artifact with one phase per grid given, of the body `body` (LLVM dialect; it sees %args,
/// %sizes, %phase, %task, %scratch). Ends the test program where it does not compile.
Artifact compileKernel(const std::string &name, const std::string &body,
                       const std::vector<Extent> &grids, int sizes = 0, int64_t scratchBytes = 0);

} // namespace kernelforge
