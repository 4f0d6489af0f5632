#include "kernelforge/codegen/cpu/ObjectEmitter.h"

#include "kernelforge/codegen/LlvmEmission.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "llvm/IR/Module.h"
#include "llvm/Object/ObjectFile.h"
#include "llvm/Support/LEB128.h"
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
