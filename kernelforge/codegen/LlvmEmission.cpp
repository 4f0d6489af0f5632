#include "kernelforge/codegen/LlvmEmission.h"

#include <fmt/format.h>

#include "mlir/IR/Diagnostics.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Target/LLVMIR/LLVMTranslationInterface.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/DiagnosticPrinter.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/Verifier.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"

namespace kernelforge {

namespace {

/// Failure of a step of one kernel's compilation.
auto compileError(std::string_view entry, std::string_view step, std::string_view why) {
  return failed("kernel cannot be compiled", std::string(entry), fmt::format("{}: {}", step, why));
}

/// LLVM's errors as text, in place of its own handler, which prints and exits.
struct DiagnosticText : llvm::DiagnosticHandler {
  explicit DiagnosticText(std::string &errors) : errors(errors) {}
  bool handleDiagnostics(const llvm::DiagnosticInfo &info) override {
    if (info.getSeverity() != llvm::DS_Error)
      return true;
    llvm::raw_string_ostream stream(errors);
    llvm::DiagnosticPrinterRawOStream printer(stream);
    info.print(printer);
    return true;
  }
  std::string &errors;
};

Expected<std::unique_ptr<llvm::Module>> translate(mlir::ModuleOp module, llvm::LLVMContext &context,
                                                  std::span<const std::string> entries,
                                                  const LlvmEmission &emission) {
  // Adding a registry changes the context, which others may be using: only where it is needed.
  mlir::Dialect *dialect = module.getContext()->getLoadedDialect(emission.dialect);
  if (!dialect || !dialect->getRegisteredInterface<mlir::LLVMTranslationDialectInterface>()) {
    mlir::DialectRegistry registry;
    emission.registerTranslations(registry);
    module.getContext()->appendDialectRegistry(registry);
  }

  const std::string step = "translation to LLVM IR";
  std::string diagnostics;
  mlir::ScopedDiagnosticHandler handler(module.getContext(), [&](mlir::Diagnostic &diagnostic) {
    diagnostics += (diagnostics.empty() ? "" : "; ") + diagnostic.str();
    return mlir::success();
  });
  std::unique_ptr<llvm::Module> ir =
      mlir::translateModuleToLLVMIR(module, context, entries.front());
  if (!ir)
    return compileError(entries.front(), step, diagnostics);
  for (const std::string &entry : entries) {
    llvm::Function *function = ir->getFunction(entry);
    if (!function || function->isDeclaration())
      return compileError(entry, step, "the module does not define the entry");
  }
  return ir;
}

void optimize(llvm::Module &ir, llvm::TargetMachine &machine, const LlvmEmission &emission) {
  llvm::PassBuilder builder(&machine, emission.tuning);
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager sccs;
  llvm::ModuleAnalysisManager modules;
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(sccs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, sccs, modules);
  builder.buildPerModuleDefaultPipeline(emission.level).run(ir, modules);
}

} // namespace

Expected<std::string> emitWithLlvm(mlir::ModuleOp module, llvm::TargetMachine &machine,
                                   std::span<const std::string> entries,
                                   const LlvmEmission &emission) {
  const std::string &entry = entries.front();
  llvm::LLVMContext context;
  std::string errors;
  context.setDiagnosticHandler(std::make_unique<DiagnosticText>(errors));
  KF_TRY(auto ir, translate(module, context, entries, emission));
  ir->setTargetTriple(machine.getTargetTriple().str());
  ir->setDataLayout(machine.createDataLayout());
  if (emission.prepare)
    emission.prepare(*ir);
  {
    llvm::raw_string_ostream stream(errors);
    if (llvm::verifyModule(*ir, &stream))
      return compileError(entry, "verification of LLVM IR", stream.str());
  }
  optimize(*ir, machine, emission);

  llvm::SmallString<0> buffer;
  llvm::raw_svector_ostream stream(buffer);
  llvm::legacy::PassManager passes;
  if (machine.addPassesToEmitFile(passes, stream, /*DwoOut=*/nullptr, emission.type))
    return compileError(entry, "code generation", "the target cannot write this kind of file");
  passes.run(*ir);
  if (!errors.empty())
    return compileError(entry, "code generation", errors);
  return std::string(buffer);
}

} // namespace kernelforge
