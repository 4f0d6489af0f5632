#include "kernelforge/llm/template/Lexer.h"

#include "kernelforge/llm/template/Text.h"
#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <fmt/format.h>

namespace kernelforge::chat {

namespace {

bool isDigit(char c) { return c >= '0' && c <= '9'; }
bool isNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<uint8_t>(c) >= 0x80;
}
bool isHex(char c) { return isDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

/// The text with every \r\n and \r as \n, and without one newline at its end.
std::string normalizeNewlines(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r') {
      out += '\n';
      if (i + 1 < text.size() && text[i + 1] == '\n')
        ++i;
    } else {
      out += text[i];
    }
  }
  if (out.ends_with('\n'))
    out.pop_back();
  return out;
}

class Lexer {
public:
  explicit Lexer(std::string_view source) : text(source) {}

  std::vector<Token> run() {
    while (at < text.size())
      data();
    add(TokenKind::End, "");
    return std::move(tokens);
  }

private:
  [[noreturn]] void error(std::string message, size_t where) {
    throw TemplateError{std::move(message), position(where)};
  }

  /// Lines are counted as the text goes by; columns are bytes from the line's beginning.
  Position position(size_t where) {
    if (where < counted) { // never in practice: positions only grow
      counted = 0;
      line = 1;
      lineStart = 0;
    }
    for (; counted < where; ++counted)
      if (text[counted] == '\n') {
        ++line;
        lineStart = counted + 1;
      }
    return {line, static_cast<uint32_t>(where - lineStart + 1)};
  }
  void add(TokenKind kind, std::string value) {
    tokens.push_back({kind, std::move(value), position(std::min(tokenStart, text.size()))});
  }
  bool startsWith(std::string_view what) const { return text.substr(at).starts_with(what); }
  char charAt(size_t i) const { return i < text.size() ? text[i] : '\0'; }

  void skipSpace() {
    while (at < text.size()) {
      Utf8Step step = decodeUtf8(text.substr(at));
      if (!isSpace(step.codePoint))
        break;
      at += step.length;
    }
  }

  /// After a tag: "-" takes white space away, otherwise a block or comment takes one newline.
  void afterTag(char sign, bool trimsNewline) {
    if (sign == '-')
      skipSpace();
    else if (sign != '+' && trimsNewline && charAt(at) == '\n')
      ++at;
    lineStarting = at > 0 && text[at - 1] == '\n';
  }

  /// Text up to the next tag, then that tag.
  void data() {
    size_t begin = at, open = at;
    for (;; ++open) {
      open = text.find('{', open);
      if (open == text.npos) {
        tokenStart = begin;
        add(TokenKind::Data, std::string(text.substr(begin)));
        at = text.size();
        return;
      }
      char next = charAt(open + 1);
      if (next == '{' || next == '%' || next == '#')
        break;
    }
    char kind = text[open + 1], sign = charAt(open + 2);
    bool signedTag = sign == '-' || (sign == '+' && kind != '{');
    size_t end = open;
    if (sign == '-')
      end = begin + strip(Text(std::string(text.substr(begin, open - begin))), Side::Right).size();
    else if (!signedTag && kind != '{')
      end = stripLine(begin, open);
    if (end > begin) {
      tokenStart = begin;
      add(TokenKind::Data, std::string(text.substr(begin, end - begin)));
    }
    at = tokenStart = open;
    at += signedTag ? 3 : 2;
    if (kind == '#')
      return comment(open);
    if (kind == '%' && raw(open))
      return;
    add(kind == '{' ? TokenKind::VariableBegin : TokenKind::BlockBegin, "");
    expression(kind == '{', open);
  }

  /// Where the text before a block ends when white space alone stands between it and the line's
  /// beginning.
  size_t stripLine(size_t begin, size_t open) const {
    size_t newline = text.substr(begin, open - begin).rfind('\n');
    if (newline == text.npos && !lineStarting)
      return open;
    size_t lineBegin = newline == text.npos ? begin : begin + newline + 1;
    for (size_t i = lineBegin; i < open;) {
      Utf8Step step = decodeUtf8(text.substr(i));
      if (!isSpace(step.codePoint))
        return open;
      i += step.length;
    }
    return lineBegin;
  }

  void comment(size_t open) {
    size_t close = text.find("#}", at);
    if (close == text.npos)
      error("a comment is not closed", open);
    char sign = close > at ? text[close - 1] : '\0';
    at = close + 2;
    afterTag(sign, true);
  }

  /// A tag of one bare word at `at`: moves behind it and puts the sign before %} into `sign`.
  bool bareTag(std::string_view word, char &sign) {
    size_t start = at;
    skipSpace();
    if (startsWith(word)) {
      at += word.size();
      skipSpace();
      sign = charAt(at) == '-' || charAt(at) == '+' ? text[at] : '\0';
      if (sign)
        ++at;
      if (startsWith("%}")) {
        at += 2;
        return true;
      }
    }
    at = start;
    return false;
  }

  /// {% raw %} ... {% endraw %}: text as it is.
  bool raw(size_t open) {
    char sign = '\0';
    if (!bareTag("raw", sign))
      return false;
    if (sign == '-')
      skipSpace();
    size_t begin = at;
    for (size_t close = begin; (close = text.find("{%", close)) != text.npos; close += 2) {
      at = close + 2;
      char before = charAt(at) == '-' || charAt(at) == '+' ? text[at] : '\0';
      if (before)
        ++at;
      if (!bareTag("endraw", sign))
        continue;
      size_t end = close;
      if (before == '-')
        end =
            begin + strip(Text(std::string(text.substr(begin, close - begin))), Side::Right).size();
      else if (before != '+')
        end = stripLine(begin, close);
      tokenStart = begin;
      if (end > begin)
        add(TokenKind::Data, std::string(text.substr(begin, end - begin)));
      afterTag(sign, true);
      return true;
    }
    error("raw is not closed", open);
  }

  /// The tokens inside a tag and its end.
  void expression(bool variable, size_t open) {
    std::string_view close = variable ? "}}" : "%}";
    std::string brackets;
    while (true) {
      skipSpace();
      tokenStart = at;
      if (at >= text.size())
        error("a tag is not closed", open);
      if (brackets.empty()) {
        char sign = text[at] == '-' || (text[at] == '+' && !variable) ? text[at] : '\0';
        if (text.substr(at + (sign ? 1 : 0)).starts_with(close)) {
          at += sign ? 3 : 2;
          add(variable ? TokenKind::VariableEnd : TokenKind::BlockEnd, "");
          return afterTag(sign, !variable);
        }
      }
      char c = text[at];
      if (isDigit(c))
        number();
      else if (isNameStart(c))
        name();
      else if (c == '"' || c == '\'')
        string(c);
      else
        operatorToken(brackets);
    }
  }

  void name() {
    while (isNameStart(charAt(at)) || isDigit(charAt(at)))
      ++at;
    add(TokenKind::Name, std::string(text.substr(tokenStart, at - tokenStart)));
  }

  void digits(std::string &out, bool (*accept)(char)) {
    while (accept(charAt(at)) || (charAt(at) == '_' && accept(charAt(at + 1)))) {
      if (text[at] != '_')
        out += text[at];
      ++at;
    }
  }

  void number() {
    std::string out;
    char prefix = static_cast<char>(charAt(at + 1) | 0x20);
    if (text[at] == '0' && (prefix == 'x' || prefix == 'o' || prefix == 'b')) {
      (out += '0') += prefix;
      at += 2;
      digits(out, isHex);
      return add(TokenKind::Integer, std::move(out));
    }
    digits(out, isDigit);
    bool isFloat = false;
    // After a dot ("a.0.5") a number is an integer: an item of an item.
    bool afterDot = tokenStart > 0 && text[tokenStart - 1] == '.';
    if (!afterDot && charAt(at) == '.' && isDigit(charAt(at + 1))) {
      isFloat = true;
      out += text[at++];
      digits(out, isDigit);
    }
    if (!afterDot && (charAt(at) == 'e' || charAt(at) == 'E')) {
      size_t sign = charAt(at + 1) == '+' || charAt(at + 1) == '-' ? 1 : 0;
      if (isDigit(charAt(at + 1 + sign))) {
        isFloat = true;
        out += 'e';
        if (sign && text[at + 1] == '-')
          out += '-';
        at += 1 + sign;
        digits(out, isDigit);
      }
    }
    add(isFloat ? TokenKind::Float : TokenKind::Integer, std::move(out));
  }

  void string(char quote) {
    std::string out;
    ++at;
    while (true) {
      if (at >= text.size())
        error("a string is not closed", tokenStart);
      char c = text[at++];
      if (c == quote)
        break;
      if (c != '\\') {
        out += c;
        continue;
      }
      if (at >= text.size())
        error("a string is not closed", tokenStart);
      escape(out);
    }
    add(TokenKind::String, std::move(out));
  }

  /// Hexadecimal digits of an escape, exactly `count`.
  char32_t hexValue(int count) {
    char32_t value = 0;
    for (int i = 0; i < count; ++i, ++at) {
      if (!isHex(charAt(at)))
        error("an escape in a string lacks digits", at);
      char c = text[at];
      value = value * 16 + static_cast<char32_t>(isDigit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
      error("an escape in a string is no character", at);
    return value;
  }

  /// The escapes of Python's string literals; an unknown one keeps its backslash.
  void escape(std::string &out) {
    char c = text[at++];
    static constexpr std::string_view letters = "ntrbfav\\'\"", values = "\n\t\r\b\f\a\v\\'\"";
    if (size_t i = letters.find(c); i != letters.npos) {
      out += values[i];
    } else if (c == '\n') {
      // a line continued
    } else if (c == 'x') {
      appendUtf8(out, hexValue(2));
    } else if (c == 'u') {
      appendUtf8(out, hexValue(4));
    } else if (c == 'U') {
      appendUtf8(out, hexValue(8));
    } else if (c >= '0' && c <= '7') {
      char32_t value = static_cast<char32_t>(c - '0');
      for (int i = 0; i < 2 && charAt(at) >= '0' && charAt(at) <= '7'; ++i)
        value = value * 8 + static_cast<char32_t>(text[at++] - '0');
      appendUtf8(out, value);
    } else {
      (out += '\\') += c;
    }
  }

  void operatorToken(std::string &brackets) {
    static constexpr std::string_view two[] = {"//", "**", "==", "!=", "<=", ">="};
    std::string_view found;
    for (std::string_view op : two)
      if (startsWith(op))
        found = op;
    if (found.empty() && std::string_view("+-*/%~()[]{}<>=.,:|").find(text[at]) != text.npos)
      found = text.substr(at, 1);
    if (found.empty())
      error(fmt::format("\"{}\" does not belong in a tag",
                        text.substr(at, decodeUtf8(text.substr(at)).length)),
            at);
    char c = found[0];
    if (c == '(' || c == '[' || c == '{') {
      brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty() || brackets.back() != c)
        error(fmt::format("\"{}\" closes nothing", c), at);
      brackets.pop_back();
    }
    at += found.size();
    add(TokenKind::Operator, std::string(found));
  }

  std::string_view text;
  std::vector<Token> tokens;
  size_t at = 0, tokenStart = 0;
  bool lineStarting = true; ///< nothing but the beginning or a newline stands before `at`
  uint32_t line = 1;
  size_t counted = 0, lineStart = 0;
};

} // namespace

std::vector<Token> lex(std::string_view source) {
  std::string text = normalizeNewlines(source);
  return Lexer(text).run();
}

} // namespace kernelforge::chat
