// Modules as text: from a file, standard input, or a record.
#pragma once

#include "kernelforge/support/Error.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"

#include <string>

namespace kernelforge::cli {

/// Parses a module. Unusable, naming `where` with line and column of the first mistake.
Expected<mlir::OwningOpRef<mlir::ModuleOp>>
parseModuleText(mlir::MLIRContext *context, const std::string &text, std::string where);

/// The same from a file; "-" is standard input.
Expected<mlir::OwningOpRef<mlir::ModuleOp>> parseModule(mlir::MLIRContext *context,
                                                        const std::string &file);

} // namespace kernelforge::cli
