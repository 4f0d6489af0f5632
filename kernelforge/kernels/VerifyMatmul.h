// Is a variant right? Runs it on problems that are made to show mistakes and compares with f64.
#pragma once

#include "kernelforge/kernels/MatmulKernel.h"

namespace kernelforge {

/// Small problems that between them have every type of weights, sizes of 1, odd sizes, sizes beyond
/// a cache block, transposed weights, and every step of an epilogue.
std::vector<MatmulProblem> trialProblems();

/// Prepares `problem` with random operands of both signs and runs it twice. No, with the place and
/// the values, where
///   - an element is further from the f64 result than f32 sums explain, in whatever order they are,
///   - an element is not written, or memory beside the result is,
///   - the input changes, or the second run gives other bits than the first.
/// The error of prepare() or run() where that fails.
Status verifyMatmul(const MatmulKernel &kernel, const MatmulProblem &problem,
                    const MatmulOptions &options);

/// How many of trialProblems() were verified, with one and with two threads; those that the variant
/// does not support are left out. Missing where the variant is unavailable.
Expected<int> verifyMatmul(const MatmulKernel &kernel);

} // namespace kernelforge
