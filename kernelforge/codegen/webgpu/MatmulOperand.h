// Operands of a matmul on their way into workgroup memory: a few numbers of a row are fetched at a
// time, and all threads of a workgroup share out a tile.
#pragma once

#include "kernelforge/codegen/simt/Elements.h"

namespace kernelforge::webgpu::matmul {

/// Rows of numbers that lie one behind the other, an argument of the kernel's body or a workspace.
/// They are fetched in pieces of 4 or 8 neighbours of a row.
class Operand {
public:
  /// Rows or a weight, in pieces of `width`. Numbers are rounded to `rounded` where that is
  /// narrower.
  Operand(simt::PhaseBuilder &p, mlir::Value bodyArgument, int64_t width, ElementType rounded);
  /// Rows of `cols` f32 (vectors of four), or f16 (vectors of four words), in workspace `number`.
  Operand(simt::PhaseBuilder &p, int number, ElementType type, int64_t cols, ElementType rounded);

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
  /// Values that one is fetched as.
  int64_t pieces() const { return width / std::max<int64_t>(step, 4); }
  /// A fetched piece of 4 as f32.
  mlir::Value floats(mlir::ValueRange piece) { return floats(piece, 0); }
  /// A fetched piece of 8 as f16, two in each of four words; rounded to that where it is wider.
  mlir::Value halves(mlir::ValueRange piece);

private:
  mlir::Value floats(mlir::ValueRange piece, unsigned quad);
  mlir::Value number(mlir::Value at);
  mlir::Value zero(mlir::Type type);

  simt::PhaseBuilder &p;
  mlir::Value buffer;
  mlir::RankedTensorType quantized; ///< null: plain numbers
  ElementType type = ElementType::F32, rounded;
  int64_t cols, width, step = 1;
};

/// How a tile of an operand is brought into workgroup memory.
enum class Way {
  Turned,  ///< the operand's rows run along K; a vector of memory is four of them at one k
  AlongK,  ///< the same; they stand in memory as they are
  AcrossK, ///< the operand's rows are of one k each; they stand in memory as they are
};

/// A workgroup's tile of an operand: how it is shared out among the threads, and where it stands in
/// workgroup memory.
class Tile {
public:
  /// `rows` of the tile (or columns, of a weight) and `depth` of a stage, both powers of two. In
  /// memory it begins at vector `begin`, and its rows there are `stride` vectors apart.
  Tile(simt::PhaseBuilder &p, Operand operand, Way way, int64_t rows, int64_t depth, int64_t begin,
       int64_t stride);

  /// Says where the tile is: its first row, and the first k, both multiples of four. Gives the
  /// place of this thread's first piece.
  mlir::Value start(mlir::Value firstRow, mlir::Value firstK, llvm::StringRef name);
  /// Places from a stage to the next.
  int64_t step() const {
    return way == Way::AcrossK ? operand.rowsApart(depth) : depth / operand.unit();
  }

  /// This thread's pieces of a stage, whose first one is at `place`.
  llvm::SmallVector<mlir::Value> fetch(mlir::Value place) { return fetch(place, {}, 0); }
  /// The same of a stage that begins at `firstK`, with zeros from `end` of K on.
  llvm::SmallVector<mlir::Value> fetch(mlir::Value place, mlir::Value firstK, int64_t end);
  /// As many pieces of zeros.
  llvm::SmallVector<mlir::Value> zeros();
  /// Values that fetch() gives.
  size_t pieces() const { return static_cast<size_t>(count * rowsOfShare() * operand.pieces()); }
  /// Writes fetched pieces into memory, `at` vectors (0 where null) further on.
  void put(mlir::ValueRange pieces, mlir::Value memory, mlir::Value at);

private:
  int64_t rowsOfShare() const { return way == Way::Turned ? 4 : 1; }
  bool isForAll(int64_t i) const { return i + 1 < count || left == p.blockThreads(); }
  /// Rows and vectors from a thread's first share to its share `i`.
  std::pair<int64_t, int64_t> distance(int64_t i) const {
    return {i * p.blockThreads() / across, i * p.blockThreads() % across};
  }
  llvm::SmallVector<mlir::Value> fetchShare(int64_t i, mlir::Value place, mlir::Value first,
                                            int64_t end);
  llvm::SmallVector<mlir::Value> zerosOfShare();
  void putShare(int64_t i, mlir::ValueRange pieces, mlir::Value memory, mlir::Value target);

  simt::PhaseBuilder &p;
  Operand operand;
  Way way;
  int64_t depth, stride, begin;
  int64_t across;          ///< shares side by side in the operand's rows
  int64_t count;           ///< shares of a thread
  int64_t left;            ///< threads that have the last one
  mlir::Value row, vector; ///< of the thread's first share
  mlir::Value target;      ///< where it is put
};

} // namespace kernelforge::webgpu::matmul
