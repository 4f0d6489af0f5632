// Template source to tokens, white space control included: as Jinja does with trim_blocks and
// lstrip_blocks on and a single newline at the end dropped.
#pragma once

#include "kernelforge/llm/template/Limits.h"

#include <string>
#include <string_view>
#include <vector>

namespace kernelforge::chat {

enum class TokenKind : uint8_t {
  Data,          ///< text outside tags
  VariableBegin, ///< {{
  VariableEnd,   ///< }}
  BlockBegin,    ///< {%
  BlockEnd,      ///< %}
  Name,
  String, ///< escapes resolved
  Integer,
  Float,
  Operator, ///< one of + - * / // % ** ~ ( ) [ ] { } == != < <= > >= = . , : |
  End
};

struct Token {
  TokenKind kind;
  std::string text; ///< numbers without underscores
  Position at;
};

/// Throws TemplateError: an unclosed tag, comment or string, a character that no token begins with.
std::vector<Token> lex(std::string_view source);

} // namespace kernelforge::chat
