// What a kernel's finished code takes of a processor, and what a kernel may demand of it.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kernelforge::transformer {
class KernelOp;
} // namespace kernelforge::transformer

namespace kernelforge {

/// -1, or nothing: nobody says.
struct KernelResources {
  int64_t registers = -1;  ///< of a thread on a GPU; vector registers on a CPU
  int64_t spillBytes = -1; ///< of a thread, or of a CPU kernel's stack frame
  int64_t sharedBytes = -1;
  /// Instructions of inner loops that load from the stack or store there, as text.
  std::optional<std::vector<std::string>> loopSpills = {};
};

/// No, naming the kernel with the numbers, where the code does not keep to the kernel's demands
/// (#transformer.demands) of registers and spills. What nobody says is not refused.
Status checkDemands(transformer::KernelOp kernel, const KernelResources &resources);

/// Whether a kernel demands anything that checkDemands() looks at.
bool demandsResources(transformer::KernelOp kernel);

} // namespace kernelforge
