// What the values that a matmul kernel stores are computed from: every target forms its groups of
// N-segments by this.
#pragma once

#include "kernelforge/ir/Transformer.h"

#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/SmallSet.h"

namespace kernelforge {

struct MatmulSources {
  llvm::SmallSetVector<mlir::Operation *, 8> ops; ///< between the matmul and the value
  llvm::SmallSet<unsigned, 4> segments;           ///< of the matmul
};

/// The operations of the kernel, and the segments of `matmul`, that `value` depends on.
MatmulSources sourcesOf(transformer::MatmulOp matmul, mlir::Value value);

} // namespace kernelforge
