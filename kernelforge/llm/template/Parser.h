// Tokens to a syntax tree.
#pragma once

#include "kernelforge/llm/template/Ast.h"
#include "kernelforge/llm/template/Lexer.h"

namespace kernelforge::chat {

/// Throws TemplateError: wrong syntax, a tag that is not supported, nesting over the limit.
Body parse(std::string_view source, const Limits &limits);

} // namespace kernelforge::chat
