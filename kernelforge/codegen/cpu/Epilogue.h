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
/// a norm that is needed at two different rows at once, or one of more heads than are kept. Part of
/// what supports() asks; operations by themselves are not looked at.
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
  /// The same for several values; what they share is emitted once. Where only the columns
  /// [first, end) of their rows are at hand (i64; null: all are), these are whole heads, and
  /// nothing else is evaluated then; whole rows are not needed for anything.
  void prepareRow(mlir::ValueRange values, mlir::Value row, mlir::Value first = {},
                  mlir::Value end = {});

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

  /// Scratch that what was emitted so far needs, from its begin on.
  int64_t scratchBytes() const { return keptBytes; }

private:
  using Accumulators = llvm::SmallVector<mlir::Value>;
  using Visited = llvm::DenseSet<mlir::Value>;

  /// Columns that statistics are of: a whole row, or a head of it.
  struct Run {
    mlir::Value first; ///< i64; null: the row begins there
    int64_t width;
  };
  /// A row that is prepared, and what of it is at hand (null: all).
  struct Prepared {
    mlir::Value row, first, end;
  };

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
  /// The columns of a position, i32 in each lane.
  mlir::Value columnsOf(const Position &position);
  /// A position's columns within heads of `width`.
  Position inHead(const Position &position, int64_t width);
  /// What lies at `pointer` for each head (an f32), in the lanes of the head's columns.
  mlir::Value loadOfHead(mlir::Value pointer, const Position &position, int64_t width);

  void prepare(mlir::Value value, const Prepared &prepared, Visited &visited);
  void prepareHeads(mlir::Operation *op, const Prepared &prepared);
  /// Sixteen columns of a run from its column `offset` on.
  Position positionIn(mlir::Value row, const Run &run, mlir::Value offset, mlir::Value mask);
  /// Sums or maxima over a run of `value`, of which `accumulators` are neutral: `body` adds one
  /// vector, `combine` puts two of them together; `chains` are on their way at once.
  Accumulators reduceRow(
      mlir::Value value, mlir::Value row, const Run &run, Accumulators accumulators,
      llvm::function_ref<Accumulators(mlir::Value x, const Position &, mlir::ValueRange)> body,
      llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)> combine, int64_t chains);
  /// Where `width` f32 of an operation lie.
  mlir::Value keptRow(mlir::Operation *op, int64_t width);
  /// Reductions that a loop over a row of `value`, which does little else, has on their way: each
  /// waits for itself only.
  int64_t chainsOf(mlir::Value value) const;

  KernelBuilder &k;
  llvm::DenseMap<mlir::Value, Loader> loaders;
  /// Of whole rows a vector each, or where a row of f32 lies; of heads where an f32 of each lies.
  llvm::DenseMap<mlir::Operation *, llvm::SmallVector<mlir::Value>> statistics;
  llvm::DenseMap<mlir::Operation *, mlir::Value> keptRows; ///< in scratch
  int64_t keptBytes = 0;
  std::map<Key, mlir::Value> evaluated;
  int depth = 0; ///< of nested evaluations
};

} // namespace kernelforge::cpu
