// The rows of a matmul of few rows, as its threads read them.
#pragma once

#include "kernelforge/codegen/simt/MatmulUnits.h"

namespace kernelforge::simt::rows {

/// Reads units of a workgroup's rows: numbers from where the rows lie or from workgroup memory,
/// whole numbers from a workspace or from workgroup memory.
class RowInput {
public:
  /// For columns of these units.
  RowInput(PhaseBuilder &p, transformer::MatmulOp matmul, const Shape &shape, const Knobs &knobs,
           const Unit &unit);

  /// Whether a workgroup makes what it reads, so that all its threads wait for the last.
  static bool isMade(const Shape &shape, const Knobs &knobs) {
    return shape.integers() ? !knobs.prepare : knobs.stage;
  }

  /// Before any is read. All threads of the block must come here.
  void prepare(RowExpressions &expressions, llvm::ArrayRef<mlir::Value> rows);

  /// What a row's sums are yet to be multiplied with: the factor of its norm, which is known when
  /// all of the row has been read. Null: nothing.
  mlir::Value factor(size_t row) const { return factors.empty() ? mlir::Value() : factors[row]; }

  /// Runs of unit `at` of row `row` of those that were prepared; with `totals` their sums.
  InputRuns read(size_t row, mlir::Value at, const Runs &runs, bool totals);

private:
  mlir::Value evaluate(RowExpressions &expressions, const Position &position);
  /// Does all threads' parts of a row, `count` in all, of what evaluate() gives.
  void makeRow(RowExpressions &expressions, mlir::Value row, int64_t count,
               llvm::function_ref<void(mlir::Value part)> make);
  void waitForRows();
  void stage(RowExpressions &expressions, llvm::ArrayRef<mlir::Value> rows);
  void makeWholeNumbers(RowExpressions &expressions, llvm::ArrayRef<mlir::Value> rows);
  InputRuns wholeNumbers(size_t row, mlir::Value at, const Runs &runs);
  llvm::SmallVector<mlir::Value> quadsOf(size_t row, mlir::Value at, const Runs &runs);
  /// Where a run of a unit begins in a row, in steps of `steps` columns.
  mlir::Value column(mlir::Value at, int64_t run, int64_t steps);

  PhaseBuilder &p;
  mlir::Value input;
  /// Of which rows are made, all but the factor of each.
  transformer::RmsNormOp norm;
  llvm::SmallVector<mlir::Value> normed;  ///< what was read of it by a thread for a part
  llvm::SmallVector<mlir::Value> squares; ///< of rows: sums of those that a thread has read
  llvm::SmallVector<mlir::Value> factors;
  const Shape &shape;
  const Knobs &knobs;
  Unit ofUnit;
  int64_t units, stagedUnits;       ///< of a column, and in workgroup memory
  std::optional<PlainUnits> reader; ///< of rows where they lie
  int64_t grain = 1;                ///< elements of one of its units
  mlir::Value staged;               ///< rows in workgroup memory
  IntegerRows integers;
  llvm::SmallVector<mlir::Value> starts, factStarts; ///< of the rows in what they are read from
};

} // namespace kernelforge::simt::rows
