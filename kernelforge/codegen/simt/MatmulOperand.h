// Operands of a matmul on their way into workgroup memory: a few numbers of a row at a time.
#pragma once

#include "kernelforge/codegen/simt/Elements.h"

namespace kernelforge::simt::tiles {

/// Rows of numbers that lie one behind the other, an argument of the kernel's body or a workspace.
/// They are fetched in pieces of 4 or 8 neighbours of a row.
class Operand {
public:
  /// Rows or a weight, in pieces of `width`. Numbers are rounded to `rounded` where that is
  /// narrower.
  Operand(PhaseBuilder &p, mlir::Value bodyArgument, int64_t width, ElementType rounded);
  /// Rows of `cols` f32 (vectors of four), or f16 (vectors of four words), in workspace `number`.
  Operand(PhaseBuilder &p, int number, ElementType type, int64_t cols, ElementType rounded);
  /// There are so many rows (i32), and nothing beyond them is read: other numbers stand for what is
  /// asked for there.
  void readOnly(mlir::Value rows);

  /// Numbers from one place to the next: pieces or parts of them where rows begin at such, else 1.
  int64_t unit() const { return step; }
  /// The place of a piece of a row, by its number in the row.
  mlir::Value place(mlir::Value row, mlir::Value piece);
  /// Places from a row to the one that is so many rows further on.
  int64_t rowsApart(int64_t rows) const { return rows * (cols / step); }

  /// The piece at a place, as it lies in memory: what does not exist is anything.
  llvm::SmallVector<mlir::Value> fetch(mlir::Value place);
  /// The same, with zeros for its numbers from `end` on, where its first one is number `first`.
  llvm::SmallVector<mlir::Value> fetch(mlir::Value place, mlir::Value first, mlir::Value end);
  /// As zeros.
  llvm::SmallVector<mlir::Value> zeros();

  int64_t pieceWidth() const { return width; }
  /// A fetched piece of 4 as f32.
  mlir::Value floats(mlir::ValueRange piece) { return floats(piece, 0); }
  /// A fetched piece of 8 as f16, two in each of four words; rounded to that where it is wider.
  mlir::Value halves(mlir::ValueRange piece);

private:
  /// Whether pieces are fetched as f32, whatever memory has.
  bool isFloats() const { return type == ElementType::F32 || (step == 1 && !fromWords); }
  llvm::SmallVector<mlir::Value> fetchWords(mlir::Value place,
                                            llvm::function_ref<mlir::Value(int64_t i)> isThere);
  mlir::Value floats(mlir::ValueRange piece, unsigned quad);
  mlir::Value number(mlir::Value at);
  mlir::Value zero(mlir::Type type);
  /// A place, word or number in memory, as what is read is counted.
  mlir::Value within(mlir::Value at) const { return last ? p.min(at, last) : at; }

  PhaseBuilder &p;
  mlir::Value buffer;
  mlir::RankedTensorType quantized; ///< null: plain numbers
  ElementType type = ElementType::F32, rounded;
  int64_t cols, width, step = 1;
  mlir::Value last;       ///< that there is; null: all there may be
  bool fromWords = false; ///< halves of rows that begin anywhere, of which whole words are read
};

} // namespace kernelforge::simt::tiles
