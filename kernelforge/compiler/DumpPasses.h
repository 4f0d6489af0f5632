// The module after each pass that changed it, one file each: nothing in the compiler is hidden.
#pragma once

#include "kernelforge/support/Error.h"

#include "mlir/Pass/PassManager.h"

#include <filesystem>

namespace kernelforge {

/// Makes `passes` write NN-PASS.mlir into `folder` after each pass that changed the module. The
/// folder is created. Failed where it cannot be.
Status dumpPasses(mlir::PassManager &passes, const std::filesystem::path &folder);

} // namespace kernelforge
