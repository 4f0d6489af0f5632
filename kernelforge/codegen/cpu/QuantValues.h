// Quants and scales of narrow types as numbers, 16 outputs side by side.
#pragma once

#include "kernelforge/codegen/cpu/KernelBuilder.h"

namespace kernelforge::cpu {

/// Every byte of each word, from 0 to 15, as the signed byte that a table has for it.
mlir::Value valuesOfBytes(KernelBuilder &k, const std::array<int8_t, 16> &values,
                          mlir::Value words);

/// A signed byte of each word as f32.
mlir::Value signedByteToFloat(KernelBuilder &k, mlir::Value words, int64_t byte);

/// A byte e4m3 of each word as f32: a 256th of it, so that it is an f16 with other bits.
mlir::Value e4m3ToFloat(KernelBuilder &k, mlir::Value words, int64_t byte);
inline constexpr double e4m3Factor = 256;

/// The scale of a block at an address, of `type`: a scalar, or of 16 outputs side by side.
mlir::Value loadScale(KernelBuilder &k, const ElementTypeInfo &type, mlir::Value address,
                      bool isVector);
/// The same from its bits (i8, i16 or i32, a scalar or a vector).
mlir::Value scaleOfBits(KernelBuilder &k, const ElementTypeInfo &type, mlir::Value bits);
/// The integer as wide as a scale of `type`.
mlir::IntegerType scaleBits(KernelBuilder &k, const ElementTypeInfo &type);

/// The sum over bits of a vector of i32, each below 16.
mlir::Value sumOfBits(KernelBuilder &k, const BitSum &sum, mlir::Value numbers);
/// Of a number (i64).
mlir::Value sumOfScalarBits(KernelBuilder &k, const BitSum &sum, mlir::Value number);

} // namespace kernelforge::cpu
