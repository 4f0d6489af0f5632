// PTX of lowered kernels, by LLVM's NVPTX.
#pragma once

#include "kernelforge/codegen/CodeGenerator.h"

#include <string>
#include <vector>

namespace kernelforge::cuda {

/// PTX text of a lowered kernel's phases, with `comment` at its head, a line each. Failed, naming
/// the entry, where LLVM refuses it or the code would need a symbol from elsewhere.
Expected<std::string> printPtx(const EmittedKernel &lowered, const Target &target,
                               const std::vector<std::string> &comment);

} // namespace kernelforge::cuda
