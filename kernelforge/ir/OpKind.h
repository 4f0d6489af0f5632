// The vocabulary of the op interface (TransformerInterfaces.td): kinds of operations, roles of
// operands.
#pragma once

#include "mlir/IR/Value.h"
#include "llvm/ADT/StringRef.h"

namespace kernelforge {

/// What an element of an operation's result is computed from, which is where it may stand in a
/// kernel.
enum class OpKind {
  // Rowwise.
  Elementwise, ///< the elements of its rows at the same row and column
  Pairs,       ///< the same, and another element of the same head (rope)
  Statistics,  ///< its whole row first, then element by element (norms, softmax)
  PicksRows,   ///< a row that an index picks (embedding, gather_rows)
  Stores,      ///< it has no result: its rows end in memory that was there before (cache_append)
  Packs,       ///< a weight, in another layout (pack)
  EndsStep,    ///< what a step ends with; always a kernel of its own (sample, advance)
  // Roots.
  Matmul,
  Attention,
  // Taken apart before kernels are formed.
  Composite,
};

/// What an operand is to its operation: where its elements are read, and what they may be.
enum class OperandRole {
  Rows,        ///< rows of activations, read at the result's row
  PickedRows,  ///< rows of activations, read at the rows that the indices give
  RowTable,    ///< rows of numbers in memory, read at the rows that the indices give
  WeightTable, ///< a weight, read at the rows that the indices give
  Weight,      ///< a matrix that is multiplied by, or packed
  Parameter,   ///< a vector: one element for each column
  Indices,     ///< i32: rows, positions, slots, and what else there is of integers
  Cache,       ///< keys or values of attention
};

struct OperandInfo {
  llvm::StringRef name; ///< in the operation's definition
  OperandRole role;
};

/// Rows of `table` are read where `indices` say.
struct LookUp {
  mlir::Value indices, table;
};

constexpr bool isRoot(OpKind kind) { return kind == OpKind::Matmul || kind == OpKind::Attention; }

constexpr bool isRowwise(OpKind kind) { return !isRoot(kind) && kind != OpKind::Composite; }

constexpr bool mayBeEpilogue(OpKind kind) {
  return kind == OpKind::Elementwise || kind == OpKind::Pairs || kind == OpKind::Stores;
}

} // namespace kernelforge
