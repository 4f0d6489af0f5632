// The rowwise operations of a kernel as expressions over one vector of one row at a time: prologues
// and epilogues of a root, and whole rowwise kernels, are all evaluated by this.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/cpu/Numbers.h"
#include "kernelforge/support/Error.h"

#include <functional>
#include <map>

namespace kernelforge::cpu {

/// Sixteen elements of a row: columns col .. col + 15, or where `columns` is set (a vector of i32)
/// any sixteen. Lanes that `mask` turns off (null: none) are 0 and are not stored.
struct Position {
  mlir::Value row;     ///< i64
  mlir::Value col;     ///< i64; a multiple of 16 where contiguous
  mlir::Value columns; ///< null: contiguous
  mlir::Value mask;
};

/// Unusable, naming kernel and op, where RowExpressions cannot compute an operation of the kernel:
/// a norm that is needed at two different rows at once. Part of what supports() asks; operations by
/// themselves are not looked at.
Status checkRowwise(transformer::KernelOp kernel);

/// Evaluates values of a kernel's body at positions. The kernel has passed checkRowwise.
class RowExpressions {
public:
  explicit RowExpressions(KernelBuilder &k) : k(k) {}

  /// Whether there is code for a rowwise operation.
  static bool hasCode(mlir::Operation *op);

  /// Says how to load a value that is not computed here: the root's result tile, or a prologue's
  /// row that was stored before.
  using Loader = std::function<mlir::Value(const Position &)>;
  void bind(mlir::Value value, Loader loader) { loaders[value] = std::move(loader); }

  /// Emits what a whole row must be read for (norms, softmax) for everything that `value` depends
  /// on at `row`; evaluate() then uses it. Needed before the first evaluate() of each row.
  void prepareRow(mlir::Value value, mlir::Value row) { prepareRow(mlir::ValueRange(value), row); }
  /// The same for several values; what they share is emitted once.
  void prepareRow(mlir::ValueRange values, mlir::Value row);

  /// The value at a position: vector of 16 f32.
  mlir::Value evaluate(mlir::Value value, const Position &position);

  /// What a vector of parameters holds for the columns of a position: vector of 16 f32.
  mlir::Value loadParameter(mlir::Value argument, const Position &position);

  /// Positions of a row of `width` columns, sixteen at a time, the last one masked where width is
  /// no multiple of 16. `body` is emitted `unroll` times in a loop, once in a loop over what that
  /// leaves, and once for the tail.
  void forEachVector(mlir::Value row, int64_t width,
                     llvm::function_ref<void(const Position &)> body, int64_t unroll = 1);

  /// Elements of a row that are stored at once: a vector, or a block of a quantized cache.
  static int64_t storedAtOnce(const Sink &sink);

  /// The same for stores of `atOnce` elements each (storedAtOnce); `width` is a multiple of it
  /// where that is more than a vector.
  void forEachStore(mlir::Value row, int64_t width, int64_t atOnce,
                    llvm::function_ref<void(const Position &)> body, int64_t unroll);

  /// Evaluates what a sink stores from a position on, and stores it: as many elements as
  /// storedAtOnce() says, of which the position's column is a multiple. Rows whose slot is negative
  /// are computed but not stored.
  void store(const Sink &sink, const Position &position) {
    store(llvm::ArrayRef<Sink>(sink), position);
  }
  /// The same for several sinks of one width that store as much at once: all are evaluated before
  /// any is stored.
  void store(llvm::ArrayRef<Sink> sinks, const Position &position);

private:
  using Accumulators = llvm::SmallVector<mlir::Value>;
  using Visited = llvm::DenseSet<mlir::Value>;

  // The cases by operation (ir/OpCases.h).
  struct Element;
  struct Statistics;

  /// Evaluated values by position; those of one call of evaluate or store lie in one block.
  using Key = std::array<const void *, 6>;
  Key keyOf(mlir::Value value, const Position &position);
  mlir::Value evaluateOnce(mlir::Value value, const Position &position);
  mlir::Value evaluateAnew(mlir::Value value, const Position &position);
  mlir::Value evaluateOp(mlir::Operation *op, const Position &position);

  mlir::Value loadRows(mlir::Value argument, const Position &position);
  mlir::Value index(mlir::Value indices, mlir::Value row);
  /// The cosines of a row's position, then its sines.
  Numbers angles(transformer::RopeOp op, const Position &position);
  mlir::Value rope(transformer::RopeOp op, const Position &position);
  mlir::Value ropeOfAnyColumns(transformer::RopeOp op, const Position &position);

  void prepare(mlir::Value value, mlir::Value row, Visited &visited);
  /// Sums or maxima over a row of `value`: `body` adds one vector to the accumulators.
  Accumulators reduceRow(
      mlir::Value value, mlir::Value row, Accumulators accumulators,
      llvm::function_ref<Accumulators(mlir::Value x, mlir::Value mask, mlir::ValueRange)> body);

  KernelBuilder &k;
  llvm::DenseMap<mlir::Value, Loader> loaders;
  llvm::DenseMap<mlir::Operation *, llvm::SmallVector<mlir::Value>> statistics;
  std::map<Key, mlir::Value> evaluated;
  int depth = 0; ///< of nested evaluations
};

} // namespace kernelforge::cpu
