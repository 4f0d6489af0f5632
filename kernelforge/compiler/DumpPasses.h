// The module after each pass that changed it, one file each: nothing in the compiler is hidden.
#pragma once

#include "kernelforge/support/Error.h"

#include "mlir/Pass/PassManager.h"

#include <filesystem>

namespace kernelforge {

/// Makes `passes` write NN-PASS.mlir into `folder` after each pass that changed the module. The
/// folder is created. Failed where it cannot be. The first file that cannot be written is the error
/// that `written` has after the passes have run; it must live as long as `passes`.
Status dumpPasses(mlir::PassManager &passes, const std::filesystem::path &folder, Status &written);

} // namespace kernelforge
