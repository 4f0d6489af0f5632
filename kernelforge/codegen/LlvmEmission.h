// From functions in the LLVM dialect to a file of machine code or assembly, by LLVM and in process:
// what all targets share that LLVM makes code for.
#pragma once

#include "kernelforge/support/Error.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Passes/OptimizationLevel.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/CodeGen.h"

#include <functional>
#include <span>
#include <string>

namespace llvm {
class Module;
class TargetMachine;
} // namespace llvm
namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace kernelforge {

/// How a target wants its code made.
struct LlvmEmission {
  /// What translation to LLVM IR needs in a context, that of `dialect` among it. It is added to the
  /// module's where that lacks it; contexts that several threads share must have it before.
  void (*registerTranslations)(mlir::DialectRegistry &) = nullptr;
  llvm::StringRef dialect = "llvm";
  /// Facts that MLIR does not carry, put into the IR before it is optimised.
  std::function<void(llvm::Module &)> prepare = {};
  llvm::OptimizationLevel level = llvm::OptimizationLevel::O1;
  llvm::PipelineTuningOptions tuning = {};
  llvm::CodeGenFileType type = llvm::CodeGenFileType::ObjectFile;
};

/// Compiles `module`, which must define the functions `entries` (the first names it in errors), to
/// the bytes of a file. Failed, naming the entry and the step, where LLVM refuses it. The module is
/// not changed.
Expected<std::string> emitWithLlvm(mlir::ModuleOp module, llvm::TargetMachine &machine,
                                   std::span<const std::string> entries,
                                   const LlvmEmission &emission);

} // namespace kernelforge
