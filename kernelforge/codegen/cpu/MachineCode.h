// What the machine code of a kernel does with registers and stack.
#pragma once

#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/support/Error.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// An innermost loop that uses the stack.
struct SpillingLoop {
  int64_t instructions = 0; ///< all of it
  /// Those that load from the stack or store there: "+0x1a4: vmovaps 64(%rsp), %ymm3", with the
  /// offset in the function.
  std::vector<std::string> spills;
};

struct MachineCode {
  int64_t vectorRegisters = 0;
  std::vector<SpillingLoop> spillingLoops;
};

/// Reads an object that was made for `target`. An innermost loop is a cycle of the code that holds
/// no other. Unusable where the bytes are no object file or hold no instructions of the target.
Expected<MachineCode> readMachineCode(std::string_view object, const Target &target);

} // namespace kernelforge
