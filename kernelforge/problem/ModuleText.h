// Modules from text: a file's, a record's, a suite's.
#pragma once

#include "kernelforge/support/Error.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"

#include <string>

namespace kernelforge {

/// Parses a module. Unusable, naming `where` with line and column of the first mistake and, where
/// that is known, what to write instead.
Expected<mlir::OwningOpRef<mlir::ModuleOp>>
parseModuleText(mlir::MLIRContext *context, const std::string &text, std::string where);

/// The largest module that is read; a whole decoder at stage llvm stays far below.
inline constexpr uint64_t maxModuleBytes = 256u << 20;

} // namespace kernelforge
