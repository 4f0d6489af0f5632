// Element types in memory and as values: a thread computes f32 whatever memory holds. Buffers that
// are only read are words; those that narrow elements are written to are halves (Builder.h).
#pragma once

#include "kernelforge/codegen/simt/Builder.h"
#include "kernelforge/support/ElementType.h"

namespace kernelforge::simt {

/// Whether an element is half a word: f16 or bf16.
inline bool isHalf(ElementType type) {
  return type == ElementType::F16 || type == ElementType::BF16;
}

/// Four elements of a quad of words, or of f32: as f32, exact.
mlir::Value widenedQuad(PhaseBuilder &p, ElementType type, mlir::Value quad);

/// The f16 or bf16 in the low or the high half of a word, as f32: exact.
mlir::Value widened(PhaseBuilder &p, ElementType type, mlir::Value word, bool high = false);

/// `x` (f32) rounded to f16 or bf16, to nearest even, in the low half of a word, which has nothing
/// else in it.
mlir::Value narrowed(PhaseBuilder &p, ElementType type, mlir::Value x);

/// `x` (f32) as a number of `type`, which is f32, f16 or bf16, has it: still an f32.
mlir::Value rounded(PhaseBuilder &p, ElementType type, mlir::Value x);

/// Element `index` of a buffer of plain numbers, as f32, whatever view it is seen in; with `lanes`
/// 4 that one, a multiple of four, and the three after it.
mlir::Value readElement(PhaseBuilder &p, mlir::Value buffer, ElementType type, mlir::Value index,
                        int64_t lanes = 1);

/// The same of rows, or another table of numbers, that the kernel's body has as an argument.
mlir::Value readElement(PhaseBuilder &p, mlir::Value bodyArgument, mlir::Value index,
                        int64_t lanes = 1);

/// Writes `value` (f32), rounded to `type`, which is f32, f16 or bf16, as element `index` of a
/// buffer that is written; four lanes as that one, a multiple of four, and the three after it.
void writeElement(PhaseBuilder &p, mlir::Value value, mlir::Value buffer, ElementType type,
                  mlir::Value index);

/// Writes the low half of a word as half `index` of a buffer of halves.
void writeHalf(PhaseBuilder &p, mlir::Value word, mlir::Value buffer, mlir::Value index);

/// Byte `offset` of a buffer of words, 0 to 255.
mlir::Value readByte(PhaseBuilder &p, mlir::Value buffer, mlir::Value offset);

/// The low byte of a word with its sign, as f32; what is above it does not count.
mlir::Value signedByteToFloat(PhaseBuilder &p, mlir::Value word);

/// A byte e, with nothing above it, as the scale E8M0 that it is: 2^(e - 128).
mlir::Value e8m0ToFloat(PhaseBuilder &p, mlir::Value byte);

/// The four bytes of a word, or the low byte of one, as numbers e4m3: a 256th of each, so that they
/// are f16 with other bits.
mlir::Value e4m3QuadToFloats(PhaseBuilder &p, mlir::Value word);
mlir::Value e4m3ToFloat(PhaseBuilder &p, mlir::Value word);
inline constexpr double e4m3Factor = 256;

/// A sum over the bits of a number.
mlir::Value sumOfBits(PhaseBuilder &p, const BitSum &sum, mlir::Value number);

} // namespace kernelforge::simt
