// Key and value caches as threads read them that share out a head: 16 bytes at a time where these
// lie together, else what a word or two hold.
#pragma once

#include "kernelforge/codegen/simt/Builder.h"
#include "kernelforge/support/CacheSlot.h"

namespace kernelforge::simt {

/// What operands of an attention's products are rounded to: f32, f16 or bf16.
ElementType factorType(transformer::AttentionOp op);

/// A quad of f32 or one of them, rounded to `type`.
mlir::Value roundedTo(PhaseBuilder &p, ElementType type, mlir::Value x);

/// Reads heads of a cache in pieces of a few elements.
class CacheVectors {
public:
  /// Of the keys or values of an attention, whose elements are rounded as its numerics say.
  CacheVectors(PhaseBuilder &p, transformer::AttentionOp op, bool areValues);

  /// Elements of a piece, a multiple of four; 0 where heads of such a cache are not read in pieces.
  static int64_t pieceOf(transformer::CacheType type);

  /// Pieces of a head.
  int64_t pieces() const { return slot.dim / piece; }
  /// Vectors of four that a piece becomes.
  int64_t vectors() const { return piece / 4; }

  /// Whether what is read of a piece are its elements as f16.
  bool isHalves() const { return slot.type == ElementType::F16; }

  /// What is read of a piece, before it is expanded.
  struct Loaded {
    mlir::Value words, scale; ///< scale null: none
  };
  /// Piece `index` of a slot, counted from its first head on. `name`: of the value in the code.
  Loaded load(mlir::Value number, mlir::Value index, llvm::StringRef name);
  /// Its elements, four to a vector (f32).
  llvm::SmallVector<mlir::Value> expand(const Loaded &loaded);

private:
  PhaseBuilder &p;
  CacheSlot slot;
  int64_t piece;
  ElementType factor; ///< what elements are multiplied as
  mlir::Value buffer;
};

} // namespace kernelforge::simt
