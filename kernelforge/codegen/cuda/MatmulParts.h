// Matmuls of few rows of f32 by quantized weights, exactly, by the matrix units of a warp: how
// weights are multiplied, and the rows that a phase before writes for them.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/Launching.h"
#include "kernelforge/codegen/simt/Builder.h"
#include "kernelforge/codegen/simt/PlaneReader.h"
#include "kernelforge/support/WeightLayout.h"

namespace kernelforge::cuda::matmul {

/// 16 bytes of quants that threads of a column read at once, a word of each by each of them.
constexpr int64_t piecesAtOnce = 4, threadsOfColumn = 4;
/// Elements of a step: two runs, for which a thread reads 16 bytes of a row.
constexpr int64_t stepElements = 32;
/// How a row of a type of weights is multiplied.
struct Steps {
  explicit Steps(mlir::Type weight) : type(info(*elementTypeOf(weight))) {}

  /// Of what is read at once: pieces have a run for each field of their bytes.
  int64_t count() const { return piecesAtOnce * type.fields() / 2; }
  int64_t elements() const { return count() * stepElements; }
  /// Sums of a step that are scaled by themselves.
  int64_t groups() const { return simt::PlaneReader::hasOneScale(type) ? 1 : 2; }
  /// Whether quants are multiplied as they are, and else what they are multiplied too large by.
  bool areExact() const { return type.hasSignedBytes() || type.isE4M3; }
  int64_t offset() const { return areExact() ? 0 : 128 + type.zero; }
  /// The piece of run `run` of a step, by the numbers of both in a row, and its run there.
  int64_t pieceOf(int64_t step, int64_t run) const { return (2 * step + run) / type.fields(); }
  int64_t runOfPiece(int64_t step, int64_t run) const { return (2 * step + run) % type.fields(); }
  /// The first column of a step's run.
  mlir::Value columnOf(simt::PhaseBuilder &p, simt::PlaneReader &reader, mlir::Value step,
                       int64_t run) const {
    if (type.fields() == 1)
      return reader.column(p.add(p.mul(step, 2), run), 0);
    const int64_t steps = type.fields() / 2; // of a piece
    mlir::Value first = reader.column(p.div(step, steps), run);
    return p.add(first, p.mul(p.rem(step, steps), 2 * type.fieldElements()));
  }
  /// Words that a thread has of a column at once.
  int64_t words() const {
    return 1 + simt::PlaneReader::subScaleWords(type) + piecesAtOnce * (type.hasHighs() ? 2 : 1);
  }

  const ElementTypeInfo &type;
};

/// Numbers of bf16 that a number of the rows is the sum of.
int64_t partsOf(transformer::MatmulOp matmul);

/// Columns of products of so many rows: whole products.
int64_t columnsOfProducts(int64_t rows, int64_t parts);

/// Emits the phase that writes rows in parts, in the order of a type of weights, into workspace `2
/// number`: for each part of a row and each step 16 bytes for each thread of a column. Into the one
/// after it go the sums where a step's sums begin, for each of `columns` of products.
Phase emitParts(mlir::ModuleOp module, const KernelAnalysis &kernel, mlir::Value weight, int number,
                int64_t columns, llvm::StringRef entry);

} // namespace kernelforge::cuda::matmul
