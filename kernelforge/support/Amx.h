// Intel's tile registers, which a process has to ask the system for.
#pragma once

namespace kernelforge {

/// Whether the processor has AMX, and whether the system lets this process use it.
struct AmxState {
  bool present = false;
  bool permitted = false;
};

/// Asks the system at the first call, for all threads of the process.
AmxState amxState();

} // namespace kernelforge
