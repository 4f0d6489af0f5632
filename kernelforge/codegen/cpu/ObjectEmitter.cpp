#include "kernelforge/codegen/cpu/ObjectEmitter.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Target/LLVMIR/LLVMTranslationInterface.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/DiagnosticPrinter.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/Verifier.h"
#include "llvm/Object/ObjectFile.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/LEB128.h"
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
                                                  std::string_view entry) {
  // Adding a registry changes the context, which others may be using: only where it is needed.
  auto *dialect = module.getContext()->getLoadedDialect<mlir::LLVM::LLVMDialect>();
  if (!dialect || !dialect->getRegisteredInterface<mlir::LLVMTranslationDialectInterface>()) {
    mlir::DialectRegistry registry;
    registerCpuTranslations(registry);
    module.getContext()->appendDialectRegistry(registry);
  }

  std::string diagnostics;
  mlir::ScopedDiagnosticHandler handler(module.getContext(), [&](mlir::Diagnostic &diagnostic) {
    diagnostics += (diagnostics.empty() ? "" : "; ") + diagnostic.str();
    return mlir::success();
  });
  std::unique_ptr<llvm::Module> ir = mlir::translateModuleToLLVMIR(module, context, entry);
  if (!ir)
    return compileError(entry, "translation to LLVM IR", diagnostics);
  llvm::Function *function = ir->getFunction(entry);
  if (!function || function->isDeclaration())
    return compileError(entry, "translation to LLVM IR", "the module does not define the entry");
  return ir;
}

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

/// The cleaning half of -O1. Vectorizers and unrollers stay off: the shape of the loops is the
/// schedule's.
void optimize(llvm::Module &ir, llvm::TargetMachine &machine) {
  llvm::PipelineTuningOptions tuning;
  tuning.LoopVectorization = false;
  tuning.SLPVectorization = false;
  tuning.LoopInterleaving = false;
  tuning.LoopUnrolling = false;
  llvm::PassBuilder builder(&machine, tuning);
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager sccs;
  llvm::ModuleAnalysisManager modules;
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(sccs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, sccs, modules);
  builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O1).run(ir, modules);
}

Expected<std::string> emit(mlir::ModuleOp module, const Target &target, std::string_view entry,
                           llvm::CodeGenFileType type) {
  KF_TRY(auto machine, createTargetMachine(target));
  llvm::LLVMContext context;
  std::string errors;
  context.setDiagnosticHandler(std::make_unique<DiagnosticText>(errors));
  KF_TRY(auto ir, translate(module, context, entry));
  ir->setTargetTriple(target.triple);
  ir->setDataLayout(machine->createDataLayout());
  setAttributes(*ir, target, entry);
  {
    llvm::raw_string_ostream stream(errors);
    if (llvm::verifyModule(*ir, &stream))
      return compileError(entry, "verification of LLVM IR", stream.str());
  }
  optimize(*ir, *machine);

  llvm::SmallString<0> buffer;
  llvm::raw_svector_ostream stream(buffer);
  llvm::legacy::PassManager passes;
  if (machine->addPassesToEmitFile(passes, stream, /*DwoOut=*/nullptr, type))
    return compileError(entry, "code generation", "the target cannot write this kind of file");
  passes.run(*ir);
  if (!errors.empty())
    return compileError(entry, "code generation", errors);
  return std::string(buffer);
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

int64_t stackBytes(std::string_view object) {
  auto parsed = llvm::object::ObjectFile::createObjectFile(
      llvm::MemoryBufferRef(llvm::StringRef(object.data(), object.size()), "object"));
  if (!parsed) {
    llvm::consumeError(parsed.takeError());
    return 0;
  }
  int64_t total = 0;
  for (const llvm::object::SectionRef &section : (*parsed)->sections()) {
    auto name = section.getName();
    auto content = section.getContents();
    if (!name || !content) {
      llvm::consumeError(name.takeError());
      llvm::consumeError(content.takeError());
      continue;
    }
    if (*name != ".stack_sizes")
      continue;
    // For each function its address and, as ULEB128, the size of its frame.
    for (size_t at = sizeof(uint64_t); at < content->size(); at += sizeof(uint64_t)) {
      unsigned length = 0;
      const char *error = nullptr;
      total += static_cast<int64_t>(
          llvm::decodeULEB128(content->bytes_begin() + at, &length, content->bytes_end(), &error));
      if (error)
        return 0;
      at += length;
    }
  }
  return total;
}

Expected<std::vector<std::string>> undefinedSymbols(std::string_view object) {
  auto bad = [](llvm::Error error) {
    return unusable("object file is not usable", "", llvm::toString(std::move(error)));
  };
  llvm::MemoryBufferRef buffer(llvm::StringRef(object.data(), object.size()), "kernel");
  auto file = llvm::object::ObjectFile::createObjectFile(buffer);
  if (!file)
    return bad(file.takeError());
  std::vector<std::string> names;
  for (const llvm::object::SymbolRef &symbol : (*file)->symbols()) {
    auto flags = symbol.getFlags();
    if (!flags)
      return bad(flags.takeError());
    if (!(*flags & llvm::object::SymbolRef::SF_Undefined))
      continue;
    auto name = symbol.getName();
    if (!name)
      return bad(name.takeError());
    if (!name->empty())
      names.push_back(name->str());
  }
  std::sort(names.begin(), names.end());
  return names;
}

Status checkSelfContained(std::string_view object, std::string_view kernel) {
  KF_TRY(auto names, undefinedSymbols(object));
  std::erase_if(names,
                [](const std::string &name) { return name == "memcpy" || name == "memset"; });
  if (names.empty())
    return {};
  return failed("kernel is not self-contained", std::string(kernel),
                fmt::format("its code calls {}", fmt::join(names, ", ")),
                "code generation must expand these operations itself");
}

} // namespace kernelforge
