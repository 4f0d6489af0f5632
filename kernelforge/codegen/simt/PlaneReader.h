// Quantized weights in planes, as fast code reads them: 16 bytes of quants at a time, with what
// belongs to them. What a piece needs is loaded first and unpacked when it is asked for, so that
// loads of several pieces can be under way at once.
#pragma once

#include "kernelforge/codegen/simt/Builder.h"
#include "kernelforge/support/WeightLayout.h"

namespace kernelforge::simt {

/// Reads a quantized weight [rows, width] in planes by pieces of 16 bytes of quants. A piece is one
/// run of 16 elements of a row for each field of a byte: of nibbles the low ones, and the high ones
/// half a chunk further on. A run has one scale. Pieces are numbered through the whole weight, row
/// after row.
///
/// All planes are one buffer, seen as View::Words4: what is narrower than 16 bytes is one word of
/// such a vector, which WGSL loads alone (`weight[i][j]`), so that a second binding is not needed.
class PlaneReader {
public:
  /// Whether a weight of this type is quantized and lies in planes.
  static bool reads(mlir::Type weight);

  /// `weight`: an argument of the kernel's body, of a type that is read.
  PlaneReader(PhaseBuilder &p, mlir::Value weight);

  int64_t piecesOfRow() const { return pieces; }
  int64_t runs() const { return type.fields(); } ///< of a piece
  int64_t zero() const { return type.zero; }     ///< what stored quants are too large by
  bool hasMinimum() const { return type.hasMin(); }
  /// For all runs of a piece.
  static bool hasOneScale(const ElementTypeInfo &type) {
    return !type.hasSubScales() || type.subElements >= type.chunkElements;
  }
  bool hasOneScale() const { return hasOneScale(type); }
  /// Words of high bits and of sub-scales that belong to a piece.
  static int64_t highWords(const ElementTypeInfo &type);
  static int64_t subScaleWords(const ElementTypeInfo &type);

  /// The number of a row's first piece, for outside of a loop over the row.
  mlir::Value firstPiece(mlir::Value row) { return p.mul(row, pieces); }
  /// Column of the first of a run's 16 elements, of a piece by its number in its row; in steps of
  /// `grain` columns, which is 1, 4, 8 or 16.
  mlir::Value column(mlir::Value pieceOfRow, int64_t run, int64_t grain = 1);

  /// What memory has of a piece, each with a name: it is loaded where it stands.
  struct Piece {
    mlir::Value number; ///< of the piece
    mlir::Value quants; ///< 16 bytes, or a word of them
    mlir::Value highs;  ///< bits above nibbles: a word or 16 bytes, those of the quants; or null
    mlir::Value scale;  ///< word with the block's scale
    llvm::SmallVector<mlir::Value, 3> subScales; ///< words with those of the piece
  };
  Piece load(mlir::Value number);
  /// The piece `steps` further on, in the chunk of one that is loaded: what they share is not
  /// loaded again.
  Piece loadAfter(const Piece &piece, int64_t steps);
  /// What memory has of a word of a piece's quants, by its number among all such of the weight: the
  /// piece that it is in, of its quants one word, and of 16 bytes of high bits one.
  Piece loadWord(mlir::Value word);
  /// What memory has of four neighbouring elements of a row, by their number among all such of the
  /// weight: the piece that they are in, of its quants and high bits one word.
  Piece loadQuad(mlir::Value quad);

  /// How elements of a run follow from its quants: value(q) * factor + minimum, in f32.
  struct Scale {
    mlir::Value factor, minimum; ///< minimum null: 0
  };
  /// Of each run.
  llvm::SmallVector<Scale, 2> scales(const Piece &piece);

  /// A run's 16 quants as they are stored, as bytes for dotOfBytes: element e is byte e % 4 of word
  /// e / 4. Signed where they have 8 bits or are looked up, else from 0 to 63: zero() is yet to be
  /// subtracted, by the sum of what they are multiplied with.
  mlir::Value bytes(const Piece &piece, int64_t run);
  /// The same with zero() subtracted, for three more operations on 16 bytes.
  mlir::Value signedBytes(const Piece &piece, int64_t run);
  /// A run's 16 quants less zero() and plus offset(), as four quads of f32 in the order of their
  /// columns: exact. What was added is taken away from a run's sum of products.
  llvm::SmallVector<mlir::Value> offsetQuads(const Piece &piece, int64_t run);
  int64_t offset() const { return hasBytes() ? 256 + 128 : 64 + type.zero; }
  /// A run's 16 quants that are bytes as they are, in the same order; numbers e4m3 as a 256th,
  /// which their scales make up for.
  llvm::SmallVector<mlir::Value> byteQuads(const Piece &piece, int64_t run);
  bool hasBytes() const { return type.hasSignedBytes() || type.isE4M3; }
  /// A run's 16 elements, as four quads; right to an f32's digits of offset() times the factor.
  llvm::SmallVector<mlir::Value> elements(const Piece &piece, int64_t run, const Scale &scale);
  /// The elements of a quad, of which loadQuad() gave all but the number.
  mlir::Value elementsOfQuad(const Piece &loaded, mlir::Value quad);

private:
  /// Where a quad is: the number of its word of quants, and of its run there; null where there is
  /// one.
  struct QuadPlace {
    mlir::Value word, run;
  };
  QuadPlace placeOfQuad(mlir::Value quad);
  /// Word `index >> shift` of a part's plane.
  mlir::Value wordOf(BlockPart part, mlir::Value index, int64_t shift, llvm::StringRef name);
  /// 16 bytes `index` of it.
  mlir::Value vectorOf(BlockPart part, mlir::Value index, llvm::StringRef name);
  mlir::Value highBits(const Piece &piece, int64_t run);
  /// Which 16 bytes of high bits are those of a piece, where they are as far apart as its quants.
  mlir::Value highVector(mlir::Value number);
  /// What the high bits of a run stand further up than those of a piece's first one.
  int64_t highShiftOfRun() const { return type.fieldElements() / type.highStep * type.highBits(); }
  mlir::Value scaleOfBlock(const Piece &piece);
  /// The factor of a run's scale or minimum, an integer; of types whose runs have them apart.
  mlir::Value subScaleOf(const Piece &piece, int64_t run, bool isMin);
  /// Sub-scales, or sub-minima, of the piece's runs: six bits in the low byte and the one above it.
  mlir::Value sixBitsOf(const Piece &piece, bool isMin);

  PhaseBuilder &p;
  const ElementTypeInfo &type;
  Planes planes;
  int64_t pieces;
  int64_t blockShift; ///< the number of a piece shifted by that is its block's
  mlir::Value buffer;
};

} // namespace kernelforge::simt
