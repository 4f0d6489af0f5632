// Modules from files and standard input.
#pragma once

#include "kernelforge/problem/ModuleText.h"

#include <string>

namespace kernelforge::cli {

/// The module of a file; "-" is standard input. Errors as for parseModuleText, and those of
/// reading.
Expected<mlir::OwningOpRef<mlir::ModuleOp>> parseModule(mlir::MLIRContext *context,
                                                        const std::string &file);

/// The same with functions for kernels that stand alone, as `emit-mlir --kernel` prints them.
Expected<mlir::OwningOpRef<mlir::ModuleOp>> parseRunnableModule(mlir::MLIRContext *context,
                                                                const std::string &file);

/// The same of a text that was read from `where`.
Expected<mlir::OwningOpRef<mlir::ModuleOp>>
parseRunnableText(mlir::MLIRContext *context, const std::string &text, std::string where);

} // namespace kernelforge::cli
