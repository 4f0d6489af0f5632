// What every target asks of the operations of a kernel before it looks at the kernel's shape:
// whether it has code for them, and the element types of their operands, which follow from the
// operands' roles.
#pragma once

#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Error.h"

#include <string>

namespace kernelforge {

/// In what one target differs from the others.
struct OperandSupport {
  std::string_view device; ///< "a CPU", in messages
  /// Whether there is code for what an operation computes, or stores. Roots and what a step ends
  /// with are not asked for.
  bool (*hasCode)(mlir::Operation *);
  bool readsLayouts; ///< weights in a layout are read, and can be packed into it
  /// Whether an operation's rows, and its results, may be f16 and bf16: parameters always may.
  bool (*readsNarrowRows)(mlir::Operation *);
  bool readsNarrowCaches = false; ///< caches may be f16, bf16 and q8_0
  bool needsFiniteF32;            ///< numbers that are written into the code must be finite as f32
};

/// Unusable, naming kernel, operation and operand, where a target cannot compute some operation of
/// a kernel whatever stands around it: it has no code for it, an element type is not computed, rows
/// are of no size that the kernel takes, or what must stand in memory is computed in the kernel.
Status checkOperations(transformer::KernelOp kernel, const OperandSupport &support);

} // namespace kernelforge
