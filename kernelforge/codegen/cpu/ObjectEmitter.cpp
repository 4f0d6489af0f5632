#include "kernelforge/codegen/cpu/ObjectEmitter.h"

#include "kernelforge/codegen/LlvmEmission.h"
#include "kernelforge/codegen/ObjectFile.h"

#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "llvm/IR/Module.h"
#include "llvm/Target/TargetMachine.h"

namespace kernelforge {

namespace {

/// Facts about every kernel that MLIR does not carry: only the entry is seen from outside, nothing
/// unwinds, and vectors keep the width that they were written in.
void setAttributes(llvm::Module &ir, const Target &target, std::string_view entry) {
  std::string width = std::to_string(target.limits.vectorBits);
  for (llvm::Function &function : ir) {
    if (function.isDeclaration())
      continue;
    if (std::string_view(function.getName()) != entry)
      function.setLinkage(llvm::GlobalValue::InternalLinkage);
    function.addFnAttr("prefer-vector-width", width);
    function.addFnAttr("frame-pointer", "none");
    function.setDoesNotThrow();
  }
}

Expected<std::string> emit(mlir::ModuleOp module, const Target &target, std::string_view entry,
                           llvm::CodeGenFileType type) {
  KF_TRY(auto machine, createTargetMachine(target));
  LlvmEmission emission;
  emission.registerTranslations = registerCpuTranslations;
  emission.prepare = [&](llvm::Module &ir) { setAttributes(ir, target, entry); };
  // The cleaning half of -O1. Vectorizers and unrollers stay off: the shape of the loops is the
  // schedule's.
  emission.level = llvm::OptimizationLevel::O1;
  emission.tuning.LoopVectorization = false;
  emission.tuning.SLPVectorization = false;
  emission.tuning.LoopInterleaving = false;
  emission.tuning.LoopUnrolling = false;
  emission.type = type;
  const std::string entries[] = {std::string(entry)};
  return emitWithLlvm(module, *machine, entries, emission);
}

} // namespace

void registerCpuTranslations(mlir::DialectRegistry &registry) {
  mlir::registerBuiltinDialectTranslation(registry);
  mlir::registerLLVMDialectTranslation(registry);
}

Expected<std::string> emitObject(mlir::ModuleOp module, const Target &target,
                                 std::string_view entry) {
  KF_TRY(std::string object, emit(module, target, entry, llvm::CodeGenFileType::ObjectFile));
  KF_CHECK(checkSelfContained(object, entry));
  return object;
}

Expected<std::string> emitAssembly(mlir::ModuleOp module, const Target &target,
                                   std::string_view entry) {
  return emit(module, target, entry, llvm::CodeGenFileType::AssemblyFile);
}

} // namespace kernelforge
