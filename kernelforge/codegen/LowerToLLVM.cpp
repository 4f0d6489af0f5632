#include "kernelforge/codegen/LowerToLLVM.h"

#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Transforms/Passes.h"

namespace kernelforge {

void buildLowerToLLVM(mlir::OpPassManager &passes) {
  passes.addPass(mlir::createCanonicalizerPass());
  passes.addPass(mlir::createCSEPass());
  passes.addPass(mlir::createLoopInvariantCodeMotionPass());
  passes.addPass(mlir::arith::createArithExpandOpsPass()); // ceildivsi and the like
  passes.addPass(mlir::createConvertSCFToCFPass());
  passes.addPass(mlir::createConvertVectorToLLVMPass());
  passes.addPass(mlir::createConvertIndexToLLVMPass());
  passes.addPass(mlir::createArithToLLVMConversionPass());
  passes.addPass(mlir::createConvertControlFlowToLLVMPass());
  passes.addPass(mlir::createConvertFuncToLLVMPass());
  passes.addPass(mlir::createReconcileUnrealizedCastsPass());
  passes.addPass(mlir::createCanonicalizerPass());
  passes.addPass(mlir::createCSEPass());
}

Status lowerToLLVM(mlir::ModuleOp module, llvm::StringRef besides) {
  std::string diagnostics;
  mlir::ScopedDiagnosticHandler handler(module.getContext(), [&](mlir::Diagnostic &diagnostic) {
    if (!diagnostics.empty())
      diagnostics += "; ";
    diagnostics += diagnostic.str();
    return mlir::success();
  });
  mlir::PassManager passes(module.getContext());
  buildLowerToLLVM(passes);
  // Once at the end, not after each pass, which took a twentieth of the time of compilation.
  passes.enableVerifier(false);
  bool lowered = mlir::succeeded(passes.run(module)) && mlir::succeeded(mlir::verify(module));
  bool left = false;
  module.walk([&](mlir::Operation *op) {
    const llvm::StringRef dialect = op->getName().getDialectNamespace();
    if (op != module.getOperation() && dialect != "llvm" && dialect != besides && !left) {
      left = true;
      diagnostics += (diagnostics.empty() ? "" : "; ") + op->getName().getStringRef().str() +
                     " is left after lowering";
    }
  });
  if (lowered && !left)
    return {};
  return failed("kernel cannot be lowered to LLVM", module.getName().value_or("module").str(),
                diagnostics.empty() ? "a pass failed without a message" : diagnostics);
}

} // namespace kernelforge
