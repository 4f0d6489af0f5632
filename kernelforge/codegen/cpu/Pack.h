// Bringing a weight into its layout: the one rowwise operation that reads weights whole.
#pragma once

#include "kernelforge/codegen/cpu/KernelBuilder.h"

namespace kernelforge::cpu {

/// Emits the copy of rows [firstRow, firstRow + rowCount) of a weight from `from` into the layout
/// of `op`'s result at `to`; firstRow (i64) and rowCount are multiples of 16. Rows beyond the
/// weight's are left out; the layout's filling is written as zeros.
void emitPackRows(KernelBuilder &k, transformer::PackOp op, mlir::Value from, mlir::Value to,
                  mlir::Value firstRow, int64_t rowCount);

} // namespace kernelforge::cpu
