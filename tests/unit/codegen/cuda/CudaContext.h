// The MLIR context of tests of CUDA's code, with the dialects that it is made of.
#pragma once

#include "kernelforge/codegen/cuda/Generator.h"
#include "kernelforge/ir/Transformer.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"

namespace kernelforge {

/// One for all tests of a program.
inline mlir::MLIRContext &context() {
  static mlir::MLIRContext &made = []() -> mlir::MLIRContext & {
    static mlir::MLIRContext context;
    mlir::DialectRegistry registry;
    cuda::createGenerator()->registerDialects(registry);
    registry.insert<transformer::TransformerDialect, mlir::func::FuncDialect>();
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
    return context;
  }();
  return made;
}

} // namespace kernelforge
