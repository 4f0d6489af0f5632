// The ways to compute the kernels of a family on NVIDIA's GPUs.
#pragma once

#include "kernelforge/codegen/simt/Methods.h"

namespace kernelforge::cuda {

using simt::Method;

/// What plain code may take of a target: shared memory that is declared, buffers that an index of
/// 32 bits reaches.
Limits simtLimits(const Target &target);

/// A target as plain SIMT code sees it: what it may take, and what it knows features by.
Target simtTarget(const Target &target);

/// All ways of this kind of target.
const simt::Methods &methods();

// What there is besides the plain code, a function for each file.
const Method &matmulMatrices();    ///< matrix units of a warpgroup
const Method &matmulNarrow();      ///< few rows: matrix units of a warp
const Method &matmulParts();       ///< few rows of f32 and quants, by the same
const Method &attentionMatrices(); ///< matrix units of a warpgroup
const Method &attentionGroups();   ///< few rows: matrix units of a warp

} // namespace kernelforge::cuda
