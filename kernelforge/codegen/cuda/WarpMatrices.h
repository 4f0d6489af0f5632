// Products by the matrix units of one warp, whose operands are registers: pairs of 16-bit numbers.
// f32 are multiplied as the sum of a few such numbers.
#pragma once

#include "kernelforge/codegen/simt/Builder.h"
#include "kernelforge/codegen/simt/Elements.h"

#include <array>

namespace kernelforge::cuda {

/// Multiplies 16 x 16 by 16 x 8 numbers, f16 or bf16, and adds f32. Thread 4 r + i of a warp has of
/// the left operand the pairs (r, 2i), (r + 8, 2i), (r, 2i + 8), (r + 8, 2i + 8), of the right one
/// (2i, r) and (2i + 8, r), pairs downwards, and of the sums (r, 2i), (r, 2i + 1), (r + 8, 2i),
/// (r + 8, 2i + 1).
class WarpMatrices {
public:
  static constexpr int64_t rows = 16, columns = 8, depth = 16, threads = 32;

  explicit WarpMatrices(simt::PhaseBuilder &p) : p(p) {}

  using Left = std::array<mlir::Value, 4>;  ///< words (i32)
  using Right = std::array<mlir::Value, 2>; ///< words (i32)
  using Sums = std::array<mlir::Value, 4>;  ///< f32
  /// All threads of a warp must come here.
  Sums multiply(ElementType element, const Left &left, const Right &right, const Sums &sums);

  /// What the warp's thread `lane` (i32) has.
  mlir::Value ofLane(mlir::Value value, mlir::Value lane);

  /// Words of the low halves of two words, and of the high ones.
  mlir::Value lowHalves(mlir::Value first, mlir::Value second);
  mlir::Value highHalves(mlir::Value first, mlir::Value second);

  /// Signed bytes of a word as pairs of f16, side by side.
  std::array<mlir::Value, 2> halvesOfBytes(mlir::Value word);
  /// A word of the bytes 2 `number` and 2 `number` + 1 of two words, each of the first followed by
  /// that of the second.
  mlir::Value pairsOfBytes(mlir::Value first, mlir::Value second, int64_t number);
  /// Bytes of a word, which are below 128, as pairs of bf16, side by side, that are 128 too large.
  std::array<mlir::Value, 2> offsetPairsOfBytes(mlir::Value word);
  /// Signed bytes of a word as pairs of bf16, side by side.
  std::array<mlir::Value, 2> quantsOfBytes(mlir::Value word);

  /// Two f32 as so many words, whose pairs add up to them as far as they have digits for it: three
  /// of bf16 are all digits of an f32, two of f16 all but two. `first` is in the low halves.
  llvm::SmallVector<mlir::Value> partsOf(ElementType element, int64_t count, mlir::Value first,
                                         mlir::Value second);

private:
  mlir::Value bytesOf(mlir::Value first, mlir::Value second, int64_t selector);

  simt::PhaseBuilder &p;
};

} // namespace kernelforge::cuda
