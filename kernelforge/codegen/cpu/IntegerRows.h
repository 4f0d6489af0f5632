// Rows in blocks of whole numbers of 8 bits (numerics `i8`), and their products with bytes of
// quantized weights.
#pragma once

#include "kernelforge/codegen/cpu/Epilogue.h"
#include "kernelforge/codegen/cpu/KernelBuilder.h"
#include "kernelforge/support/Numerics.h"

namespace kernelforge::cpu {

/// A row of K elements as phase 0 leaves it: its quants, then for each block of 32 the scale; the
/// sum of the quants of each half of a block, i32; and for each block their sum times the scale.
struct IntegerRowLayout {
  static constexpr int64_t half = integerBlock / 2;
  int64_t depth;

  int64_t blocks() const { return depth / integerBlock; }
  int64_t scales() const { return depth; }
  int64_t sums() const { return scales() + blocks() * 4; }
  int64_t scaledSums() const { return sums() + 2 * blocks() * 4; }
  /// Whole cache lines.
  int64_t bytes() const { return (scaledSums() + blocks() * 4 + 63) / 64 * 64; }
};

/// Where a row has what belongs to elements from some block on.
struct IntegerRow {
  mlir::Value quants, scales, sums, scaledSums;

  /// From element `first` (i64, a multiple of 32) on of the row at `row`.
  static IntegerRow at(KernelBuilder &k, const IntegerRowLayout &layout, mlir::Value row,
                       mlir::Value first);
};

/// Rounds row `row` of `input` to whole numbers and writes it to `out`: as the reference does
/// (docs/numerics.md), the largest element of a block is 127.
void emitIntegerRow(KernelBuilder &k, RowExpressions &expressions, mlir::Value input,
                    mlir::Value row, mlir::Value out, const IntegerRowLayout &layout);

/// Products of bytes of weights with bytes of rows, four of each of 16 lanes at a time, by what the
/// processor has: VNNI of 512 or 256 bits, or AVX2's pairs of 16 bits.
class ByteProducts {
public:
  /// Of bytes up to `largest`; signed ones down to as much below 0.
  ByteProducts(KernelBuilder &k, int64_t largest, bool isSigned);

  /// What add() takes quants to be more than they are.
  int64_t offset() const { return isSigned && form != Form::Pairs ? 128 : 0; }

  /// A sum under way.
  struct Sum {
    mlir::Value total;                  ///< vector of i32
    llvm::SmallVector<mlir::Value> low; ///< sums of pairs in 16 bits, by halves of the lanes
    int64_t pending = 0;                ///< products in each of these
  };
  void add(Sum &sum, mlir::Value weights, mlir::Value row);
  /// The registers of a sum that grow; none where a vector of sums is two.
  llvm::SmallVector<mlir::Value *> registers(Sum &sum);
  /// The sum as a vector of f32, `init` (i32, a scalar) added.
  mlir::Value finish(Sum &sum, mlir::Value init);

private:
  enum class Form { Vnni512, Vnni256, Pairs };
  std::array<mlir::Value, 2> halvesOf(mlir::Value words);
  mlir::Value join(mlir::Value low, mlir::Value high);
  void flush(Sum &sum);

  KernelBuilder &k;
  Form form;
  bool isSigned;
  int64_t mostPending; ///< products of 16 bits that do not overflow
};

} // namespace kernelforge::cpu
