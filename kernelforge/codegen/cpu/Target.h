// Which processor code is generated for: exact, validated, never quietly the host's. LLVM ignores
// an unknown CPU or feature with a warning; here it is an error.
#pragma once

#include "kernelforge/codegen/Target.h"
#include "kernelforge/support/Error.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace llvm {
class TargetMachine;
} // namespace llvm

namespace kernelforge {

/// An x86-64 processor as LLVM knows it, from what a user wrote. Its triple, chip and features
/// determine it: parseTarget(chip, featureString()) gives the same target again. `cpuName` is
/// `native` (this machine; also meant by an empty name), a level (`avx2`: x86-64-v3 with FMA and
/// F16C; `avx512`: x86-64-v4) or a CPU that LLVM knows. `featureList` is a comma-separated list of
/// +feature and -feature, applied in order; it may begin with a level where `cpuName` is native.
/// Unusable, naming near names, where a name is not known; where the target lacks AVX2, FMA or
/// F16C, the least that kernels need.
Expected<Target> parseTarget(std::string_view cpuName, std::string_view featureList);

/// Missing, naming features, where this machine cannot run the target's code.
Status checkRunnable(const Target &target);

/// LLVM's machine for the target: position-independent code, all optimizations, no fast-math.
Expected<std::unique_ptr<llvm::TargetMachine>> createTargetMachine(const Target &target);

/// Makes LLVM's x86 code generator known to LLVM; cheap after the first call, from any thread.
void initializeX86();

} // namespace kernelforge
