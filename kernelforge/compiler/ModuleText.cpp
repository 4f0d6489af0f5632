#include "kernelforge/compiler/ModuleText.h"

#include "kernelforge/compiler/SyntaxHints.h"

#include "mlir/Parser/Parser.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;

/// A message without what speaks of MLIR's or our own C++.
static std::string readable(const std::string &message) {
  llvm::StringRef text(message);
  if (text.contains("created with unregistered dialect"))
    return text.split(" : ").first.str() + " is of a dialect that is not known";
  std::string plain = text.trim().str();
  const std::string scope = "::kernelforge::transformer::";
  for (size_t at; (at = plain.find(scope)) != std::string::npos;)
    plain.erase(at, scope.size());
  return plain;
}

Expected<OwningOpRef<ModuleOp>>
kernelforge::parseModuleText(MLIRContext *context, const std::string &text, std::string where) {
  ParseMistake mistake; // the first
  ScopedDiagnosticHandler handler(context, [&](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() != DiagnosticSeverity::Error || !mistake.message.empty())
      return success();
    mistake.message = diagnostic.str();
    if (auto location = dyn_cast<FileLineColLoc>(diagnostic.getLocation())) {
      mistake.line = location.getLine();
      mistake.column = location.getColumn();
      where += fmt::format(":{}:{}", mistake.line, mistake.column);
    }
    return success();
  });
  llvm::SourceMgr sources;
  sources.AddNewSourceBuffer(llvm::MemoryBuffer::getMemBufferCopy(text, "module"), llvm::SMLoc());
  auto module = parseSourceFile<ModuleOp>(sources, ParserConfig(context));
  if (!module && mistake.message.empty())
    return unusable("module is not usable", where, "it cannot be parsed");
  if (!module)
    return unusable("module is not usable", where, readable(mistake.message),
                    syntaxHint(context, text, mistake));
  return module;
}
