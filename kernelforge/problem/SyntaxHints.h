// What to write instead where a module's text is wrong: MLIR says what its parser expected, which
// helps only who knows the operation's form.
#pragma once

#include "mlir/IR/MLIRContext.h"

#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// A mistake as MLIR reports it, and where: line and column from 1.
struct ParseMistake {
  std::string message;
  unsigned line = 0, column = 0;
};

/// What to write instead of what stands in `text` there; empty where nothing better is known than
/// the message. `context` knows the operations.
std::string syntaxHint(mlir::MLIRContext *context, std::string_view text,
                       const ParseMistake &mistake);

/// How an operation of the dialect is written, for each that users write: "transformer.add", and
/// "%z = transformer.add %x, %y : !rows".
const std::vector<std::pair<std::string, std::string>> &operationForms();

} // namespace kernelforge
