// What a thread reads of a weight's row at a time for products by the matrix units of a warp: 16
// bytes of numbers, or of quants with what belongs to them, which become pairs of 16-bit numbers.
#pragma once

#include "kernelforge/codegen/cuda/Assembly.h"
#include "kernelforge/codegen/simt/PlaneReader.h"

#include <optional>

namespace kernelforge::cuda::matmul {

class NarrowUnits {
public:
  /// Of a weight of `element`, bf16 or f16, or a quantized one in planes that is rounded to it.
  NarrowUnits(simt::PhaseBuilder &p, mlir::Value weight, ElementType element);

  /// Elements of a unit of such a weight, which are runs of 8 or 16 neighbours; words that a thread
  /// loads of one, or some more.
  static int64_t elementsOf(mlir::Type weight);
  static int64_t wordsOf(mlir::Type weight);

  int64_t runs() const { return planes ? planes->runs() : 1; }
  int64_t elementsOfRun() const { return planes ? 16 : 8; }
  /// Where a run of a unit begins in a row, by the unit's number there; in steps of 8 columns.
  mlir::Value column(mlir::Value unitOfRow, int64_t run);

  /// A unit by its number in the weight, loaded where it stands.
  struct Loaded {
    mlir::Value plain;
    simt::PlaneReader::Piece piece;
  };
  Loaded load(mlir::Value number);
  /// What a loop carries of a unit, and the unit with the number `number` of that.
  llvm::SmallVector<mlir::Value> valuesOf(const Loaded &loaded) const;
  Loaded loadedOf(mlir::ValueRange values, mlir::Value number, const Loaded &like) const;

  /// A run as words of two numbers.
  llvm::SmallVector<mlir::Value> words(const Loaded &loaded, int64_t run);

private:
  simt::PhaseBuilder &p;
  Assembly assembly;
  ElementType element;
  mlir::Value buffer; ///< of plain numbers
  std::optional<simt::PlaneReader> planes;
};

} // namespace kernelforge::cuda::matmul
