#include "kernelforge/problem/ModuleText.h"

#include "kernelforge/problem/SyntaxHints.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
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
  if (text.starts_with("block with no terminator"))
    return "block with no terminator"; // it goes on with the operation in MLIR's own form
  // "custom op 'X' 'X' op ...": the parser and the verifier both name it.
  if (StringRef rest = text; rest.consume_front("custom op ")) {
    const auto [name, said] = rest.split(' ');
    if (said.starts_with((name + " op ").str()))
      text = said;
  }
  // "operand #1 must be variadic of a weight matrix of static shape of A or B values, but got 'T'":
  // the hint lists what is known.
  if (const auto [before, after] = text.split(" must be "); after.contains(", but got '"))
    for (StringRef kind :
         {"a weight matrix", "a vector of parameters", "rows of activations", "one i32 per row"})
      if (after.contains(kind))
        return before.str() + " is " + after.split(", but got ").second.str() + ", which is not " +
               kind.str();
  std::string plain = text.trim().str();
  const std::string scope = "::kernelforge::transformer::";
  for (size_t at; (at = plain.find(scope)) != std::string::npos;)
    plain.erase(at, scope.size());
  return plain;
}

/// Gives each function argument the name that the text has for it, "%x", as its location: messages
/// speak of it by that name.
static void nameArguments(ModuleOp module, StringRef text) {
  SmallVector<StringRef> lines;
  text.split(lines, '\n');
  for (auto function : module.getOps<func::FuncOp>()) {
    if (function.isExternal())
      continue;
    for (BlockArgument argument : function.getArguments()) {
      auto location = dyn_cast<FileLineColLoc>(argument.getLoc());
      if (!location || location.getFilename() != "module" || location.getLine() == 0 ||
          location.getLine() > lines.size())
        continue;
      const StringRef from = lines[location.getLine() - 1].drop_front(
          std::min<size_t>(lines[location.getLine() - 1].size(), location.getColumn() - 1));
      const StringRef name = from.take_until([](char c) { return c == ':' || c == ' '; });
      if (name.starts_with("%"))
        argument.setLoc(NameLoc::get(StringAttr::get(module.getContext(), name), location));
    }
  }
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
  if (module)
    nameArguments(*module, text);
  if (!module && mistake.message.empty())
    return unusable("module is not usable", where, "it cannot be parsed");
  if (!module)
    return unusable("module is not usable", where, readable(mistake.message),
                    syntaxHint(context, text, mistake));
  return module;
}
