// The layouts of weights in the IR, as the values that those who read and write bytes know.
#pragma once

#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/WeightLayout.h"

namespace kernelforge {

/// The layout of a weight's type.
WeightLayout weightLayoutOf(mlir::Type type);

/// The attribute of a layout; null of RowMajor.
transformer::LayoutAttr layoutAttr(mlir::MLIRContext *context, WeightLayout layout);

} // namespace kernelforge
