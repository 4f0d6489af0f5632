// What a thread multiplies at a time: a unit of a column, which is 16 bytes of a weight's row or
// fewer, with the same elements of the rows.
#pragma once

#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/codegen/webgpu/MatmulRows.h"
#include "kernelforge/codegen/webgpu/Weights.h"
#include "kernelforge/support/Numerics.h"

#include <optional>

namespace kernelforge::webgpu::rows {

/// The elements of a row that belong to a unit: numbers, or whole numbers in blocks.
struct InputUnit {
  /// f32, four at a time, run after run; one number where a unit is one element.
  llvm::SmallVector<mlir::Value> quads;
  /// Of each run of numbers, where the weight asks for them (WeightUnits::needsTotals): their sum.
  llvm::SmallVector<mlir::Value> totals;
  /// Of each run, four words of bytes: of the high plane and, where there are two, the low one.
  llvm::SmallVector<mlir::Value> high, low;
  /// Of each run: the f32 that its whole numbers are multiples of, and their sum, which is one.
  llvm::SmallVector<mlir::Value> factors, sums;
};

/// Elements of f32, four at a time, rounded as numerics say.
mlir::Value roundedFor(simt::PhaseBuilder &p, Numerics numerics, mlir::Value x);

/// Reads units of rows of plain numbers: 1, 4 or 8 neighbours.
class PlainUnits {
public:
  PlainUnits(simt::PhaseBuilder &p, mlir::Value bodyArgument, int64_t unit);

  /// What numbers are made of by quads(): a load alone where that is a unit.
  llvm::SmallVector<mlir::Value> load(mlir::Value number, llvm::StringRef name);
  /// Elements of a unit, four at a time.
  llvm::SmallVector<mlir::Value> quads(const llvm::SmallVector<mlir::Value> &loaded);
  ElementType elementType() const { return type; }

private:
  /// Whether a vector of the buffer is a unit.
  bool isVector() const;

  simt::PhaseBuilder &p;
  ElementType type;
  int64_t unit;
  mlir::Value buffer;
};

/// Reads units of a weight, of plain numbers or in planes, and multiplies them.
class WeightUnits {
public:
  /// `unit`: elements of a unit of plain numbers.
  WeightUnits(simt::PhaseBuilder &p, mlir::Value weight, int64_t unit, Numerics numerics);

  /// What memory has of a unit, loaded where it stands.
  struct Loaded {
    llvm::SmallVector<mlir::Value> plain;
    PlaneReader::Piece piece;
  };
  Loaded load(mlir::Value number);
  /// Lanes of a sum: four where products of quads are added lane by lane.
  int64_t lanes() const;
  /// Whether runs of the rows need their sums.
  bool needsTotals() const;

  /// Adds a unit's products with those of each row to the row's sum.
  void multiply(const Loaded &loaded, llvm::ArrayRef<InputUnit> rows,
                llvm::function_ref<mlir::Value &(size_t row)> sum);

private:
  bool multipliesRuns() const { return planes && numerics == Numerics::F32; }
  void multiplyQuads(const llvm::SmallVector<mlir::Value> &quads, llvm::ArrayRef<InputUnit> rows,
                     llvm::function_ref<mlir::Value &(size_t row)> sum);
  void multiplyRuns(const PlaneReader::Piece &piece, llvm::ArrayRef<InputUnit> rows,
                    llvm::function_ref<mlir::Value &(size_t row)> sum);
  void multiplyElements(const PlaneReader::Piece &piece, llvm::ArrayRef<InputUnit> rows,
                        llvm::function_ref<mlir::Value &(size_t row)> sum);
  void multiplyIntegers(const PlaneReader::Piece &piece, llvm::ArrayRef<InputUnit> rows,
                        llvm::function_ref<mlir::Value &(size_t row)> sum);

  simt::PhaseBuilder &p;
  Numerics numerics;
  int64_t unit; ///< elements, of plain numbers
  std::optional<PlainUnits> plain;
  std::optional<PlaneReader> planes;
};

} // namespace kernelforge::webgpu::rows
