// Rows of weight matrices read sixteen columns at a time: embeddings, and whatever else looks a row
// up instead of multiplying by it.
#pragma once

#include "kernelforge/codegen/cpu/KernelBuilder.h"

namespace kernelforge::cpu {

/// Sixteen elements of row `row` (i64) of the weight matrix of type `type` at `table`, in its
/// layout: columns `col` .. `col` + 15, `col` (i64) a multiple of 16, or the columns `columns`
/// (vector of i32) where these are given. Exactly the values of dequantizeRow.
mlir::Value loadTableRow(KernelBuilder &k, mlir::Value table, mlir::RankedTensorType type,
                         mlir::Value row, mlir::Value col, mlir::Value columns, mlir::Value mask);

} // namespace kernelforge::cpu
