// From a function of launches and its artifacts to a program: buffers, launches, memory plan.
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/support/Error.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace kernelforge {

/// The functions of a module of launches that can be programs: those that launch kernels, and those
/// that give their arguments back. Others, such as a kernel's code, are left out.
std::vector<mlir::func::FuncOp> programFunctions(mlir::ModuleOp module);

/// `artifacts` are those of the function's module; intermediates lie where the target's `limits`
/// allow. Unusable, naming the operation, where the
/// function holds anything but launches, gives anything but tensors, or launches a kernel with
/// other sizes than it is made for.
Expected<Program> buildProgram(mlir::func::FuncOp function, const std::vector<Artifact> &artifacts,
                               const Limits &limits = {});

} // namespace kernelforge
