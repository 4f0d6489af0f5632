// What a thread multiplies at a time: a unit of a column, which is 16 bytes of a weight's row or
// fewer, with the same elements of the rows.
#pragma once

#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/codegen/simt/MatmulRows.h"
#include "kernelforge/codegen/simt/PlaneReader.h"
#include "kernelforge/support/Numerics.h"

#include <optional>

namespace kernelforge::simt::rows {

/// Where run `number` of 16 elements of a row lies among units: of which unit it is, and which of
/// the unit's runs.
struct RunPlace {
  RunPlace(PhaseBuilder &p, const Unit &unit, mlir::Value number);
  mlir::Value unit, run;
};

/// Runs of a unit that are multiplied together, of plain numbers all of it.
struct Runs {
  int64_t first = 0, count = 1;
};

/// The elements of a row that belong to runs of a unit: numbers, or whole numbers in blocks.
struct InputRuns {
  /// f32, four at a time, run after run; one number where a unit is one element.
  llvm::SmallVector<mlir::Value> quads;
  /// Of each run of numbers, where the weight asks for them (WeightUnits::needsTotals): their sum.
  llvm::SmallVector<mlir::Value> totals;
  /// Of each run, four words of bytes: of the high plane and, where there are two, the low one.
  llvm::SmallVector<mlir::Value> high, low;
  /// Of each run: the f32 that its whole numbers are multiples of, and their sum, which is one.
  llvm::SmallVector<mlir::Value> factors, sums;
};

/// What numerics round numbers to before they are multiplied; nothing where they do not.
std::optional<ElementType> roundedTo(Numerics numerics);

/// Elements of f32, four at a time, rounded as numerics say.
mlir::Value roundedFor(PhaseBuilder &p, Numerics numerics, mlir::Value x);

/// Reads units of rows of plain numbers: 1, 4 or 8 neighbours.
class PlainUnits {
public:
  PlainUnits(PhaseBuilder &p, mlir::Value bodyArgument, int64_t unit);

  /// What numbers are made of by quads(): a load alone where that is a unit.
  llvm::SmallVector<mlir::Value> load(mlir::Value number, llvm::StringRef name);
  /// Elements of a unit, four at a time.
  llvm::SmallVector<mlir::Value> quads(const llvm::SmallVector<mlir::Value> &loaded);
  ElementType elementType() const { return type; }

private:
  /// Whether a vector of the buffer is a unit.
  bool isVector() const;

  PhaseBuilder &p;
  ElementType type;
  int64_t unit;
  mlir::Value buffer;
};

/// Reads units of a weight, of plain numbers or in planes, and multiplies them.
class WeightUnits {
public:
  /// `streams`: by loads for what is read once; `lanesOfSum`: of quads, 1 or 4.
  WeightUnits(PhaseBuilder &p, mlir::Value weight, const Unit &unit, Numerics numerics,
              bool streams, int64_t lanesOfSum);

  /// What memory has of a unit, loaded where it stands.
  struct Loaded {
    llvm::SmallVector<mlir::Value> plain;
    llvm::SmallVector<PlaneReader::Piece, 2> pieces;
    llvm::SmallVector<PlaneReader::Scale, 2> scales; ///< of the runs of a piece, from its first use
  };
  Loaded load(mlir::Value number);
  /// What a loop carries of a unit, and the same unit of what it carried first: that with the
  /// number `number`, of the same kind as `like`.
  static llvm::SmallVector<mlir::Value> valuesOf(const Loaded &loaded);
  Loaded loadedOf(mlir::ValueRange values, mlir::Value number, const Loaded &like);

  /// Lanes of a sum: four where products of quads are added lane by lane.
  int64_t lanes() const;
  /// Whether runs of the rows need their sums.
  bool needsTotals() const { return multipliesRuns() && !planes->hasBytes(); }
  /// The runs of a unit, as they are multiplied: those of whole numbers together that have one
  /// scale and one block of the row.
  llvm::SmallVector<Runs> runs() const;

  /// Adds the products of a unit's runs with those of each row to the row's sum.
  using Sums = llvm::function_ref<mlir::Value &(size_t row)>;
  void multiply(Loaded &loaded, const Runs &runs, llvm::ArrayRef<InputRuns> rows, Sums sum);

private:
  bool multipliesRuns() const { return planes && numerics == Numerics::F32; }
  /// Pieces of a unit: neighbours, whose runs take turns.
  int64_t pieces() const { return unit.runs / planes->runs(); }
  const PlaneReader::Piece &pieceOf(const Loaded &loaded, int64_t run) const {
    return loaded.pieces[static_cast<size_t>(run % pieces())];
  }
  int64_t runOfPiece(int64_t run) const { return run / pieces(); }
  const PlaneReader::Scale &scaleOf(const Loaded &loaded, int64_t run) const {
    return loaded.scales[static_cast<size_t>(runOfPiece(run))];
  }
  void multiplyQuads(const llvm::SmallVector<mlir::Value> &quads, llvm::ArrayRef<InputRuns> rows,
                     Sums sum);
  void multiplyElements(const Loaded &loaded, const Runs &runs, llvm::ArrayRef<InputRuns> rows,
                        Sums sum);
  void multiplyQuants(const Loaded &loaded, const Runs &runs, llvm::ArrayRef<InputRuns> rows,
                      Sums sum);
  void multiplyIntegers(const Loaded &loaded, const Runs &runs, llvm::ArrayRef<InputRuns> rows,
                        Sums sum);

  PhaseBuilder &p;
  Numerics numerics;
  Unit unit;
  bool streams;
  int64_t lanesOfSum;
  std::optional<PlainUnits> plain;
  std::optional<PlaneReader> planes;
};

} // namespace kernelforge::simt::rows
