// What every target asks of the operations of a kernel before it looks at the kernel's shape:
// whether it has code for them, and where their operands stand.
#pragma once

#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Error.h"
#include "kernelforge/support/Numerics.h"
#include "kernelforge/support/WeightLayout.h"

#include <string>

namespace kernelforge {

/// In what one target differs from the others.
struct OperandSupport {
  std::string_view device; ///< "a CPU", in messages
  /// Whether there is code for what an operation computes, or stores. Roots and what a step ends
  /// with are not asked for.
  bool (*hasCode)(mlir::Operation *);
  bool readsLayouts;   ///< weights in `layout` are read, and can be packed into it; else in none
  bool needsFiniteF32; ///< numbers that are written into the code must be finite as f32
  /// Whether there is code for a matmul or an attention in its numerics; null: for f32 alone, which
  /// is not asked for.
  bool (*multipliesIn)(mlir::Operation *, Numerics) = nullptr;
  WeightLayout layout = WeightLayout::RowMajor; ///< the one that it reads besides
};

/// Unusable, naming kernel, operation and operand, where a target cannot compute some operation of
/// a kernel whatever stands around it: it has no code for it or for its numerics, rows are of no
/// size that the kernel takes, or what must stand in memory is computed in the kernel.
Status checkOperations(transformer::KernelOp kernel, const OperandSupport &support);

} // namespace kernelforge
