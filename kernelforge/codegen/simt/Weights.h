// Weights as one thread reads them, row-major as in the file or in planes: element by element or a
// whole row in the order of its words.
#pragma once

#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/support/WeightLayout.h"

namespace kernelforge::simt {

/// Words of four bytes from a byte of a buffer on: the number of the word with that byte, and by
/// how many bits each must be shifted.
struct Words {
  mlir::Value first, shift; ///< shift null: 0
};
/// From byte `offset` on, which is a multiple of `alignment`: 1, 2 or 4.
Words wordsFrom(PhaseBuilder &p, mlir::Value offset, int64_t alignment);
mlir::Value wordOf(PhaseBuilder &p, mlir::Value buffer, const Words &words, mlir::Value index);

/// Reads a weight or table of any element type, `[rows, width]` row-major or in planes, or a vector
/// of parameters `[width]`, which is one row.
class WeightReader {
public:
  WeightReader(PhaseBuilder &p, mlir::Value buffer, mlir::RankedTensorType type);

  /// One element (f32), wherever it lies.
  mlir::Value element(mlir::Value row, mlir::Value col);

  using Body = llvm::function_ref<llvm::SmallVector<mlir::Value>(
      mlir::Value element, mlir::Value col, mlir::ValueRange carried)>;
  /// Goes through a row, word after word: each word is read once, each scale once for the elements
  /// that share it. `body` gets an element (f32) and its column, and what is carried under
  /// `carriedName` from one element to the next, from `init` on.
  llvm::SmallVector<mlir::Value> fold(mlir::Value row, llvm::StringRef carriedName,
                                      mlir::ValueRange init, Body body);
  /// The same down a column.
  llvm::SmallVector<mlir::Value> foldColumn(mlir::Value col, int64_t rows,
                                            llvm::StringRef carriedName, mlir::ValueRange init,
                                            Body body);

private:
  /// How an element follows from its quant, a zero not yet subtracted: quant * scale + offset.
  struct Scale {
    mlir::Value factor, offset; ///< offset null: 0
  };

  mlir::Value quantized(mlir::Value row, mlir::Value col);
  llvm::SmallVector<mlir::Value> foldPlain(mlir::Value row, llvm::StringRef carriedName,
                                           mlir::ValueRange init, Body body);
  llvm::SmallVector<mlir::Value> foldQuantized(mlir::Value row, llvm::StringRef carriedName,
                                               mlir::ValueRange init, Body body);

  // Parts of a block, which is the byte where it begins, or in planes its number in the weight.
  /// What one more block adds.
  int64_t blockStep() const { return planes ? 1 : type.blockBytes; }
  /// Byte where a part begins.
  mlir::Value partAt(mlir::Value block, BlockPart part);
  /// What it begins at a multiple of in all blocks, in bytes: 1, 2 or 4.
  int64_t alignmentOf(BlockPart part) const;
  mlir::Value byteAt(mlir::Value offset) { return readByte(p, buffer, offset); }
  mlir::Value half(mlir::Value block, BlockPart part);
  mlir::Value scale(mlir::Value block);
  mlir::Value subScale(mlir::Value block, mlir::Value sub, bool isMin);
  mlir::Value byteToFloat(mlir::Value word); ///< of a quant in the low byte, whatever is above it
  mlir::Value quantToFloat(mlir::Value q); ///< of one of fewer bits; less its zero where looked up
  Scale scaleOf(mlir::Value block, mlir::Value sub, mlir::Value d, mlir::Value m);
  mlir::Value apply(mlir::Value quant, const Scale &scale);

  /// A loop, or its body alone where it runs once.
  llvm::SmallVector<mlir::Value> repeat(llvm::StringRef name, int64_t count,
                                        llvm::StringRef carriedName, mlir::ValueRange init,
                                        PhaseBuilder::CarryBody body);

  PhaseBuilder &p;
  mlir::Value buffer;
  const ElementTypeInfo &type;
  int64_t width;
  std::optional<Planes> planes; ///< where it lies in them
};

/// Elements of a vector of parameters that the kernel's body has as an argument, from column `col`
/// on: one, or four where that is a multiple of four.
mlir::Value readParameter(PhaseBuilder &p, mlir::Value bodyArgument, mlir::Value col,
                          int64_t lanes = 1);

} // namespace kernelforge::simt
