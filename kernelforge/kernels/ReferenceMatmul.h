// A matmul problem by the reference operations: all of its result, or single elements.
#pragma once

#include "kernelforge/kernels/MatmulKernel.h"
#include "kernelforge/kernels/Reference.h"

namespace kernelforge::reference {

/// All of `out` [m, n] from `input` [m, k]: rounded to f32 after the sum and after each step of the
/// epilogue.
void matmulProblem(const MatmulProblem &problem, const MatmulOperands &operands, const float *input,
                   float *out, int threads, Precision precision = Precision::Wide);

/// Element i of `out` is element indices[i] (row * n + column) of the result of matmulProblem, the
/// same bits. Each thread expands one column of the weight at a time; elements of one column cost
/// that once.
void matmulElements(const MatmulProblem &problem, const MatmulOperands &operands,
                    const float *input, std::span<const int64_t> indices, std::span<float> out,
                    int threads, Precision precision = Precision::Wide);

} // namespace kernelforge::reference
