// The built-in variants: each is one source file that defines one of these functions. A new one is
// a file, a line here and a line in MatmulRegistry.cpp.
#pragma once

#include "kernelforge/kernels/MatmulKernel.h"

namespace kernelforge {

std::unique_ptr<MatmulKernel> makeReferenceMatmul(); ///< "reference": f64 sums, the oracle
std::unique_ptr<MatmulKernel> makeBlockedMatmul();   ///< "blocked": one thread, cache blocking
std::unique_ptr<MatmulKernel> makeParallelMatmul();  ///< "parallel": blocked, split over threads
std::unique_ptr<MatmulKernel> makeOpenBlasMatmul();  ///< "vendor:openblas"
std::unique_ptr<MatmulKernel> makeMklMatmul();       ///< "vendor:mkl"
std::unique_ptr<MatmulKernel> makeOneDnnMatmul();    ///< "vendor:onednn"

} // namespace kernelforge
