// Quantized weights on their way into stages of shared memory: a warpgroup reads pieces of their
// planes and writes them as matrix units take them.
#pragma once

#include "kernelforge/codegen/cuda/Assembly.h"
#include "kernelforge/codegen/simt/PlaneReader.h"

namespace kernelforge::cuda {

/// Expands one weight [columns of the results, depth] by the threads of a warpgroup, some stages of
/// the depth at a time: a unit.
class WeightExpander {
public:
  /// `columns`: of a tile, a multiple of columnUnit; `weight`: an argument of the kernel's body
  /// that lies in planes; `stages` of a unit: stagesOf() of it or of another weight beside it.
  /// `thread`: in the warpgroup (i32).
  WeightExpander(simt::PhaseBuilder &p, mlir::Value weight, int64_t columns, ElementType element,
                 int64_t stages, mlir::Value thread);

  static constexpr int64_t columnUnit = 64;
  /// Stages that hold whole pieces of a weight of this type.
  static int64_t stagesOf(mlir::Type weight);

  /// Registers of a thread that what load() gives takes, of a weight of this type.
  static int64_t registersOf(mlir::Type weight, int64_t columns, int64_t stages);

  /// What this thread needs of unit `number`, of the columns from `firstCol` on. Columns that are
  /// not there are others that are.
  llvm::SmallVector<mlir::Value> load(mlir::Value number, mlir::Value firstCol);
  /// How many values that are.
  size_t values() const { return count; }
  /// Writes it, of the same unit and columns, to the weight's panels in the stages.
  void store(mlir::ValueRange loaded, mlir::Value number, mlir::Value firstCol,
             llvm::ArrayRef<mlir::Value> panels);

private:
  /// Column of the tile and piece of the unit that item `i` of this thread is.
  std::pair<mlir::Value, mlir::Value> placeOf(int64_t i);
  mlir::Value numberOf(int64_t i, mlir::Value unit, mlir::Value firstCol);

  simt::PhaseBuilder &p;
  Assembly assembly;
  simt::PlaneReader reader;
  int64_t columns, rows; ///< of a tile; of the weight
  ElementType element;
  mlir::Value thread;
  int64_t pieces, items;                            ///< pieces of a column in a unit; of a thread
  llvm::SmallVector<simt::PlaneReader::Piece> last; ///< what load() gave, as a form
  size_t count = 0;                                 ///< of values in them
};

} // namespace kernelforge::cuda
