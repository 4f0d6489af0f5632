// What a kernel is, worked out once: planner, schedules, emitters, costs and library problems read
// it here.
#pragma once

#include "kernelforge/codegen/KernelCost.h"
#include "kernelforge/ir/Transformer.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallPtrSet.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace kernelforge {

/// Which emitter a kernel is for. Step: the operations that a step ends with.
enum class KernelFamily { Matmul, Attention, Rowwise, Step };

/// What a kernel's body stores: a yield or a cache append, with the value that it stores.
struct Sink {
  mlir::Value value;
  mlir::Operation *op;  ///< YieldOp or CacheAppendOp
  unsigned resultIndex; ///< for a yield
};

/// Segments of a matmul whose results are needed together (gate and up), and what is stored of
/// them.
struct SegmentGroup {
  llvm::SmallVector<unsigned> segments;
  llvm::SmallVector<Sink> sinks;
  llvm::SmallVector<mlir::Operation *> ops; ///< besides the matmul, that the sinks are computed by
  int64_t n = 0;                            ///< columns of each segment
};

/// The size that the rows of a value follow, or without a name how many there are always.
struct RowCount {
  llvm::StringRef size;
  int64_t number = 0; ///< ShapedType::kDynamic where a size says

  bool operator==(const RowCount &) const = default;
};

/// The rows of a type; nothing where it has none.
std::optional<RowCount> rowCountOf(mlir::Type type);

/// Columns of a value that is rows.
int64_t widthOf(mlir::Value value);

/// Columns of a head that an operation after a matmul needs whole: one that rotates or norms each
/// head of a row; 0 where it needs none.
int64_t headWidthOf(mlir::Operation *op);

/// The facts of one kernel. They hold as long as its body and types stay as they are.
class KernelAnalysis {
public:
  /// Of any kernel that its verifier accepts; whether there is code for it is for a code generator
  /// to say.
  explicit KernelAnalysis(transformer::KernelOp kernel);

  transformer::KernelOp kernel() const { return op; }
  /// `where` of errors: "@name".
  const std::string &name() const { return symbol; }
  KernelFamily family() const { return kind; }
  /// The operation that gives the kernel its family; the last one where all are rowwise.
  mlir::Operation *root() const { return first; }
  /// The root where it is a matmul, an attention; else null.
  transformer::MatmulOp matmul() const;
  transformer::AttentionOp attention() const;
  /// Whether the root is all that the body holds, works on arguments, and all of its results are
  /// yielded in order.
  bool isRootAlone() const;

  /// All that the body stores, in its order.
  llvm::ArrayRef<Sink> sinks() const { return stores; }
  /// Of a matmul: its segments by what is stored of them. Those that nothing needs, or that have no
  /// columns, are left out.
  llvm::ArrayRef<SegmentGroup> groups() const { return segmentGroups; }
  /// Of a rowwise kernel: what is stored by rows that it can share a loop over them; a packed
  /// weight stands alone. They never read each other's results, so their order is free.
  llvm::ArrayRef<llvm::SmallVector<Sink>> rowGroups() const { return sinksByRows; }
  /// Whether an operation needs the root's result.
  bool followsRoot(mlir::Operation *operation) const { return followers.contains(operation); }

  /// Whether an argument of the body is a weight in every launch: the kernel says so, or all
  /// functions of its module that launch it pass what they say is one. It is there before any
  /// launch.
  bool isWeight(mlir::BlockArgument argument) const;

  /// How many rows the leading dimension of `type` may have, {min, max}; equal where it is static.
  std::pair<int64_t, int64_t> rows(mlir::Type type) const;
  /// The same for choosing a schedule: at most 2^30. More rows change no choice, and what is
  /// computed from fewer stays in range.
  std::pair<int64_t, int64_t> plannedRows(mlir::Type type) const;

  /// What a launch must compute and move at least; counted when it is first asked for.
  const KernelCost &cost() const;

private:
  void formGroups();
  void formRowGroups();

  transformer::KernelOp op;
  std::string symbol;
  KernelFamily kind = KernelFamily::Rowwise;
  mlir::Operation *first = nullptr;
  llvm::SmallVector<Sink> stores;
  llvm::SmallVector<SegmentGroup> segmentGroups;
  llvm::SmallVector<llvm::SmallVector<Sink>> sinksByRows;
  llvm::SmallPtrSet<mlir::Operation *, 8> followers;
  mutable std::optional<KernelCost> counted;
};

/// Analyses of a module's kernels, each made when it is first asked for. Not for several threads.
class KernelAnalyses {
public:
  /// Stays until the kernel is forgotten.
  const KernelAnalysis &of(transformer::KernelOp kernel);
  /// A kernel was changed or is about to go.
  void forget(transformer::KernelOp kernel) { known.erase(kernel.getOperation()); }
  /// How many were made so far.
  int64_t made() const { return count; }

private:
  llvm::DenseMap<mlir::Operation *, std::unique_ptr<KernelAnalysis>> known;
  int64_t count = 0;
};

/// Why what a sink stores is no rows of numbers of which it is known how many; empty where it is.
std::string sinkObstacle(const Sink &sink);

/// Why what a matmul kernel stores cannot be computed from the elements of its result at hand;
/// empty where it can. With `hasTile` those are some columns of a row, whole heads among them; else
/// it is one element.
std::string epilogueObstacle(const KernelAnalysis &kernel, bool hasTile);

} // namespace kernelforge
