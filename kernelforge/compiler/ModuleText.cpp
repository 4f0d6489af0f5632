#include "kernelforge/compiler/ModuleText.h"

#include "mlir/Parser/Parser.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;

Expected<OwningOpRef<ModuleOp>>
kernelforge::parseModuleText(MLIRContext *context, const std::string &text, std::string where) {
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
