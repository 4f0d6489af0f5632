// The ways to compute the kernels of a family on WebGPU devices.
#pragma once

#include "kernelforge/codegen/simt/Methods.h"

namespace kernelforge::webgpu {

/// A feature that tests give a target, beside those of matrices: these are printed as plain code,
/// and 32 threads stand for a subgroup.
constexpr std::string_view emulatedMatrices = "emulated-matrices";

using simt::Method;

/// All ways of this kind of target.
const simt::Methods &methods();

// What there is besides the plain code, a function for each file.
const Method &matmulMatrices(); ///< matrices of a subgroup
const Method &attentionMatrices();

} // namespace kernelforge::webgpu
