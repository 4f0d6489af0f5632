// A workgroup's tile of an operand on its way into workgroup memory: all threads share it out, each
// has some of it in registers for a stage of K.
#pragma once

#include "kernelforge/codegen/simt/MatmulOperand.h"

#include <memory>

namespace kernelforge::simt::tiles {

/// How a tile is brought into workgroup memory.
enum class Way {
  Turned,  ///< the operand's rows run along K; a vector of memory is four of them at one k
  AlongK,  ///< the same; they stand in memory as they are
  AcrossK, ///< the operand's rows are of one k each; they stand in memory as they are
};

/// Where a tile stands in memory: its first vector, and vectors from a row there to the next.
struct TilePlace {
  int64_t begin, stride;
  /// How many quads of rows there are, where the first rows of all quads stand before the second
  /// ones; 0: rows stand in order.
  int64_t quads = 0;
};

/// How a tile is shared out. A share is a piece of a row of the operand; of what is turned round it
/// is those of four rows.
class Tile {
public:
  virtual ~Tile() = default;

  /// Says where the tile is: its first row (or column, of a weight), and the first k, multiples of
  /// four; and from which thread on it is shared out, where not all have shares of it. Gives the
  /// place of this thread's first share.
  mlir::Value start(mlir::Value firstRow, mlir::Value firstK, int64_t firstThread,
                    llvm::StringRef name);
  /// Threads that have shares of it, all of them or fewer.
  int64_t threads() const { return sharers; }
  /// Places from a stage to the next.
  int64_t step() const {
    return way == Way::AcrossK ? rowsApart(depth) : depth / width * placesOfPiece();
  }

  /// What this thread has of a stage, whose first share is at `place`, as it lies in memory: with
  /// zeros from `end` of K on where the stage begins at `firstK`, as it is where that is null.
  /// Threads without a share fetch another one's: were they left out, what the others fetch would
  /// be waited for here, to choose between it and nothing.
  llvm::SmallVector<mlir::Value> fetch(mlir::Value place, mlir::Value firstK, int64_t end);
  /// The same as zeros.
  llvm::SmallVector<mlir::Value> zeros();
  /// Writes what was fetched at `place` into memory, `at` vectors (0 where null) further on.
  void put(mlir::ValueRange fetched, mlir::Value place, mlir::Value memory, mlir::Value at);

protected:
  /// `rows` of the tile and `depth` of a stage, both powers of two; pieces of `width` numbers.
  Tile(PhaseBuilder &p, Way way, int64_t rows, int64_t depth, int64_t width, TilePlace in);

  /// Place of a piece of a row, by its number in it; from a row to one further on, and from a piece
  /// to the next.
  virtual mlir::Value placeOf(mlir::Value row, mlir::Value piece) = 0;
  virtual int64_t rowsApart(int64_t rows) const = 0;
  virtual int64_t placesOfPiece() const = 0;
  /// A piece, from its number `first` (null: it is there) with zeros from `end` on.
  virtual llvm::SmallVector<mlir::Value> fetchPiece(mlir::Value place, mlir::Value first,
                                                    int64_t end) = 0;
  virtual llvm::SmallVector<mlir::Value> zeroPiece() = 0;
  /// Where a share is put: vectors from the tile's begin, by its row (or quad of rows) and piece.
  virtual mlir::Value targetOf(mlir::Value row, mlir::Value piece) = 0;
  /// Writes a share, `rows` further down than the thread's first one.
  virtual void putShare(mlir::ValueRange fetched, mlir::Value place, mlir::Value memory,
                        mlir::Value target, int64_t rows, int64_t pieces) = 0;

  PhaseBuilder &p;
  Way way;
  int64_t depth, width;
  TilePlace in;

  int64_t rowsOfShare() const { return way == Way::Turned ? 4 : 1; }
  /// The operand's row that stands at a row of memory.
  mlir::Value rowAt(mlir::Value row);
  int64_t rowAt(int64_t row) const {
    return in.quads == 0 ? row : row % in.quads * 4 + row / in.quads;
  }

private:
  /// Rows and pieces from a thread's first share to its share `i`.
  std::pair<int64_t, int64_t> distance(int64_t i) const {
    return {i * p.blockThreads() / across, i * p.blockThreads() % across};
  }
  llvm::SmallVector<mlir::Value> fetchShare(int64_t i, mlir::Value place, mlir::Value first,
                                            int64_t end);
  llvm::SmallVector<mlir::Value> zeroShare();

  int64_t across;         ///< shares side by side in the operand's rows
  int64_t count;          ///< shares of a thread
  int64_t sharers;        ///< threads that have shares
  mlir::Value hasShare;   ///< whether this one does; null: all do
  mlir::Value row, piece; ///< of the thread's first share, in memory
  mlir::Value target;     ///< where it is put
};

/// A tile of numbers, or of anything by single elements.
std::unique_ptr<Tile> tileOf(PhaseBuilder &p, Operand operand, Way way, int64_t rows, int64_t depth,
                             TilePlace in);

/// A tile of a weight; `strict` as of a Cut. One in planes whose rows do not lie across K is read
/// by words in pieces of four, and 16 bytes at a time in pieces of eight, if a stage is as deep as
/// wholeDepth() says, or a multiple.
std::unique_ptr<Tile> weightTile(PhaseBuilder &p, mlir::Value weight, Way way, int64_t width,
                                 int64_t rows, int64_t depth, TilePlace in, ElementType rounded,
                                 bool strict);

/// Numbers of K that lie together in a weight of this type.
int64_t wholeDepth(mlir::Type weight);

} // namespace kernelforge::simt::tiles
