// A row of a suite as a module of the transformer dialect, and how its function is to be run.
#pragma once

#include "kernelforge/eval/Suite.h"
#include "kernelforge/problem/FunctionSignature.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace kernelforge {

struct RowModule {
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::string function;
  SizeValues sizes; ///< those that are given; others are chosen
  int64_t past = 0; ///< positions in the caches before the rows of the run
};

/// Builds the module of a row, or reads the user's. Unusable where it is not valid.
Expected<RowModule> buildRowModule(mlir::MLIRContext *context, const SuiteRow &row);

} // namespace kernelforge
