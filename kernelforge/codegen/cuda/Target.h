// Targets of kind cuda: NVIDIA GPUs by chip, and the version of PTX.
#pragma once

#include "kernelforge/codegen/Target.h"
#include "kernelforge/support/Error.h"

#include <memory>

namespace llvm {
class TargetMachine;
} // namespace llvm

namespace kernelforge::cuda {

/// `chip` is "sm_90a" or another that this LLVM makes code for, "portable" (the least of them: PTX
/// runs on newer chips, too, but for that of a chip whose name ends in "a", which runs there only),
/// or "native": the device's own chip, or where LLVM does not know it yet, the newest one before
/// it. Empty: the device's, and without one portable. `features` may name a version of PTX,
/// "+ptx83"; else it is the least that has the chip. Limits are the device's where it is given,
/// else the chip's. Unusable where a word is not known, Missing where a device is needed.
Expected<Target> parseTarget(std::string_view chip, std::string_view features,
                             const DeviceInfo *device);

/// Missing, naming what is lacking, where the device's chip does not run code for the target's.
Status checkRunnable(const Target &target, const DeviceInfo &device);

/// LLVM's NVPTX for a target. Missing where this LLVM lacks it.
Expected<std::unique_ptr<llvm::TargetMachine>> createTargetMachine(const Target &target);

/// The chips that parseTarget() knows, the least first.
std::vector<std::string> chipNames();

} // namespace kernelforge::cuda
