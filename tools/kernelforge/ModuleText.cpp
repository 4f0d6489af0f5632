#include "ModuleText.h"

#include "kernelforge/support/MappedFile.h"

#include "mlir/Parser/Parser.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cli;

/// The largest module that is read; a whole decoder at stage llvm stays far below.
static constexpr uint64_t maxModuleBytes = 256u << 20;

static Expected<std::string> readModuleText(const std::string &file) {
  if (file != "-")
    return readFile(file, "module is not usable", maxModuleBytes);
  std::string text;
  char chunk[1 << 16];
  while (size_t count = std::fread(chunk, 1, sizeof(chunk), stdin)) {
    text.append(chunk, count);
    if (text.size() > maxModuleBytes)
      return unusable("module is not usable", "standard input",
                      fmt::format("it is larger than {} bytes", maxModuleBytes));
  }
  if (std::ferror(stdin))
    return failed("module cannot be read", "standard input", "reading failed");
  return text;
}

Expected<OwningOpRef<ModuleOp>> cli::parseModuleText(MLIRContext *context, const std::string &text,
                                                     std::string where) {
  std::string why;
  ScopedDiagnosticHandler handler(context, [&](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() != DiagnosticSeverity::Error || !why.empty())
      return success();
    why = diagnostic.str();
    if (auto location = dyn_cast<FileLineColLoc>(diagnostic.getLocation()))
      where += fmt::format(":{}:{}", location.getLine(), location.getColumn());
    return success();
  });
  llvm::SourceMgr sources;
  sources.AddNewSourceBuffer(llvm::MemoryBuffer::getMemBufferCopy(text, "module"), llvm::SMLoc());
  auto module = parseSourceFile<ModuleOp>(sources, ParserConfig(context));
  if (!module)
    return unusable("module is not usable", where, why.empty() ? "it cannot be parsed" : why);
  return module;
}

Expected<OwningOpRef<ModuleOp>> cli::parseModule(MLIRContext *context, const std::string &file) {
  KF_TRY(std::string text, readModuleText(file));
  return parseModuleText(context, text, file == "-" ? "standard input" : file);
}
