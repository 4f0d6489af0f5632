// The target-neutral passes. Each is one file; Passes.td says what it does and why.
#pragma once

#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/WeightLayout.h"

#include "mlir/Pass/Pass.h"

#include <functional>

namespace kernelforge {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "kernelforge/passes/Passes.h.inc"

/// Whether code can be generated for a kernel.
using KernelSupport = std::function<bool(transformer::KernelOp)>;

/// The pass `fuse` for a target: what `supports` (where it is set) refuses together and accepts one
/// by one stays apart.
std::unique_ptr<mlir::Pass> createFuse(FuseOptions options, KernelSupport supports);

/// The layout that a target's matmuls read a weight in, by its row-major type.
using LayoutChoice = std::function<WeightLayout(mlir::RankedTensorType)>;

/// The pass `assign-layouts` for a target, by the layout that it wants. `needsLayouts`: what has
/// none nevertheless is packed in each run.
std::unique_ptr<mlir::Pass> createAssignLayouts(LayoutChoice layoutFor, bool needsLayouts);

} // namespace kernelforge
