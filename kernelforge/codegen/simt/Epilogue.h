// The rowwise operations of a kernel as expressions over one element of a row at a time: prologues
// and epilogues of a root, and whole rowwise kernels, are all evaluated by this.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/simt/Builder.h"
#include "kernelforge/support/Error.h"

#include <functional>
#include <map>
#include <optional>

namespace kernelforge::simt {

/// One element, or four of a row from a column on that is a multiple of four: row and column, i32.
struct Position {
  mlir::Value row, col;
  int64_t lanes = 1;
};

/// Columns that a thread has of a row, from the first one on; `isThere` null: they always are.
struct OwnColumns {
  mlir::Value first, isThere;
};

/// How the threads of a block share out a row that all of them read.
struct RowSharing {
  int64_t lanes = 1;    ///< columns that a thread reads at once, 1 or 4
  int64_t subgroup = 0; ///< threads of every subgroup at least, as of reduceBlock()
  /// Where a row is kept in registers: all that a thread has of it, four columns each, every
  /// `blockThreads` quads of the row; columns that are not there may be read. Else empty.
  llvm::SmallVector<OwnColumns> kept;
  int64_t keptWidth = 0; ///< of that row
};

/// Evaluates values of a kernel's body at positions.
class RowExpressions {
public:
  explicit RowExpressions(PhaseBuilder &p) : p(p) {}
  /// With rows shared out so: what is read of a row that is kept is read once, for statistics and
  /// for what is stored. For one row.
  RowExpressions(PhaseBuilder &p, RowSharing sharing) : p(p), sharing(std::move(sharing)) {}

  /// Whether there is code for a rowwise operation.
  static bool hasCode(mlir::Operation *op);

  /// Says what a value that is not computed here is: the root's result.
  using Loader = std::function<mlir::Value(const Position &)>;
  void bind(mlir::Value value, Loader loader) { loaders[value] = std::move(loader); }

  /// Emits what a row needs once for everything that `values` depend on at `row`: where it begins,
  /// rows that are looked up, and what a whole row must be read for (norms, softmax), for which all
  /// threads of the block must come here. evaluate() then uses it.
  void prepareRow(mlir::ValueRange values, mlir::Value row);

  /// The value at a position: f32, or as many as it has lanes.
  mlir::Value evaluate(mlir::Value value, const Position &position);

  /// The element that a rotation joins with one at a column; `col` null: it turns none.
  struct Partner {
    mlir::Value col;
    bool isFirst = false; ///< the one whose partner it is
  };
  using FindPartner = std::function<Partner(transformer::RopeOp, mlir::Value col)>;
  /// Says that it is known when the code is made who is joined with whom, and where.
  void bindPartners(FindPartner find) { findPartner = std::move(find); }

  /// Reads what a rotation turns an element by before it is evaluated: it will be at this position
  /// alone, whatever values say so then. Nothing where lanes of a position are evaluated one by
  /// one.
  void readAngle(transformer::RopeOp op, const Position &position);

  /// Lanes that positions in what sinks of one width store can have: 4 where the width is a
  /// multiple of that, else 1.
  static int64_t lanesOf(llvm::ArrayRef<Sink> sinks);

  /// Evaluates what sinks of one width store at a position, all of it before any is stored. Rows
  /// whose slot is negative are computed but not stored.
  void store(llvm::ArrayRef<Sink> sinks, const Position &position);

  /// The two halves of store(): the values of the sinks, and where they go.
  llvm::SmallVector<mlir::Value> evaluateAll(llvm::ArrayRef<Sink> sinks, const Position &position);
  void put(llvm::ArrayRef<Sink> sinks, mlir::ValueRange values, const Position &position);

  /// Appends a block of the columns of a row to a cache of q8_0, by its number; a row whose slot is
  /// negative is passed over.
  void appendBlock(transformer::CacheAppendOp append, mlir::Value row, mlir::Value block);

  /// Bytes of workgroup memory that prepareRow() takes for a row of all that the kernel computes,
  /// beside what threads combine values in.
  static int64_t sharedBytesOfRow(transformer::KernelOp kernel);

private:
  // The cases by operation (ir/OpCases.h).
  struct Element;
  struct Statistics;

  using Key = std::array<const void *, 5>;
  bool keepsRow() const { return sharing && !sharing->kept.empty(); }
  mlir::Value known(mlir::Value value, const Position &position);
  mlir::Value evaluateOnce(mlir::Value value, const Position &position);
  mlir::Value evaluateOp(mlir::Operation *op, const Position &position);
  mlir::Value index(mlir::Value indices, mlir::Value row);
  mlir::Value rope(transformer::RopeOp op, const Position &position);
  /// Cosine and sine.
  using Angle = std::pair<mlir::Value, mlir::Value>;
  Angle angleOf(transformer::RopeOp op, const Position &position);
  using Visited = llvm::DenseSet<std::pair<mlir::Value, mlir::Value>>; ///< values by row
  void prepare(mlir::Value value, mlir::Value row, Visited &visited);
  bool lanesShareHeads(mlir::Operation *op) const;
  llvm::SmallVector<mlir::Value> statisticsOf(mlir::Operation *op, mlir::Value row);
  void ifStored(transformer::CacheAppendOp append, mlir::Value row,
                llvm::function_ref<void(mlir::Value slot)> then);
  mlir::Value rowStart(mlir::Value row, int64_t width);

  PhaseBuilder &p;
  std::optional<RowSharing> sharing;
  llvm::DenseMap<mlir::Value, Loader> loaders;
  llvm::DenseMap<std::pair<mlir::Operation *, mlir::Value>, llvm::SmallVector<mlir::Value>>
      statistics;
  /// Of heads that neighbouring lanes have, by the columns that are kept.
  llvm::DenseMap<std::pair<mlir::Operation *, mlir::Value>, llvm::SmallVector<mlir::Value>>
      ofColumns;
  llvm::DenseMap<mlir::Operation *, Angle> angles; ///< that were read ahead
  /// Columns of the same head that a rotation joins with some that are kept.
  llvm::DenseMap<mlir::Value, mlir::Value> partnerOf;
  FindPartner findPartner;
  int reductions = 0; ///< over the block so far
  /// Rows that were looked up where a whole row is prepared: they are known from there on.
  llvm::DenseMap<std::pair<mlir::Value, mlir::Value>, mlir::Value> indices;
  /// Where rows of a width begin, for rows that were prepared.
  llvm::DenseMap<std::pair<mlir::Value, int64_t>, mlir::Value> rowStarts;
  std::map<Key, mlir::Value> evaluated; ///< of one evaluate or store, by value, position and block
  int depth = 0;
  int ofHeads = 0; ///< pieces of workgroup memory for statistics of heads so far
};

/// An activation function of an element.
mlir::Value emitActivation(PhaseBuilder &p, transformer::Activation function, mlir::Value x);

/// softcap * tanh(x / softcap), or x where softcap is 0.
mlir::Value emitSoftcap(PhaseBuilder &p, double softcap, mlir::Value x);

} // namespace kernelforge::simt
