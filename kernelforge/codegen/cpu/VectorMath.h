// Transcendental functions as our own vector code: a generated object calls no library.
#pragma once

#include "kernelforge/codegen/cpu/KernelBuilder.h"

namespace kernelforge::cpu {

/// exp(x) within 2 ulp; +inf above the largest finite result, 0 below the smallest normal one, NaN
/// for NaN. `x` and results are vectors of 16 f32, here and below.
mlir::Value emitExp(KernelBuilder &k, mlir::Value x);

/// exp(x) for x <= 0, cheaper: within 2 ulp while the result is normal, within 1.2e-38 of it below
/// and 0 from -88 on down; NaN for NaN.
mlir::Value emitExpOfNonPositive(KernelBuilder &k, mlir::Value x);

/// 2^x for x <= 0 within 1e-4 of itself, for what is rounded to bf16 afterwards (whose half unit
/// is 2e-3); at most 1.2e-38 below -126, NaN for NaN. AVX-512 only.
mlir::Value emitRoughExp2(KernelBuilder &k, mlir::Value x);

/// tanh(x) within 3 ulp.
mlir::Value emitTanh(KernelBuilder &k, mlir::Value x);

/// erf(x) within 4 ulp.
mlir::Value emitErf(KernelBuilder &k, mlir::Value x);

/// The dialect's activation functions.
mlir::Value emitActivation(KernelBuilder &k, transformer::Activation function, mlir::Value x);

/// softcap * tanh(x / softcap); x itself where softcap is 0.
mlir::Value emitSoftcap(KernelBuilder &k, double softcap, mlir::Value x);

} // namespace kernelforge::cpu
