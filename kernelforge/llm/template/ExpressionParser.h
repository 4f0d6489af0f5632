// Tokens to expressions: the half of the parser that knows precedence.
#pragma once

#include "kernelforge/llm/template/Ast.h"
#include "kernelforge/llm/template/Lexer.h"

#include <algorithm>

namespace kernelforge::chat {

class ExpressionParser {
public:
  ExpressionParser(std::vector<Token> tokens, const Limits &limits)
      : tokens(std::move(tokens)), limits(limits) {}

protected:
  struct TupleStyle {
    bool conditional = true;  ///< may "a if b else c" stand in it
    bool parentheses = false; ///< is it inside them, where it may be empty
  };

  /// Counts a level of nesting while it lives; throws over the limit.
  class Nesting {
  public:
    explicit Nesting(ExpressionParser &parser);
    ~Nesting() { --parser.nesting; }
    Nesting(const Nesting &) = delete;
    Nesting &operator=(const Nesting &) = delete;

  private:
    ExpressionParser &parser;
  };

  const Token &current() const { return tokens[index]; }
  const Token &look() const { return tokens[std::min(index + 1, tokens.size() - 1)]; }
  void next() {
    if (index + 1 < tokens.size())
      ++index;
  }
  bool atName(std::string_view name) const {
    return current().kind == TokenKind::Name && current().text == name;
  }
  bool atOperator(std::string_view op) const {
    return current().kind == TokenKind::Operator && current().text == op;
  }
  [[noreturn]] void error(std::string message) const;
  void expect(TokenKind kind, std::string_view shown);
  void expectOperator(std::string_view op);
  std::string expectName();

  ExpressionPtr parseExpression() { return parseConditional(); }
  /// One expression, or several with commas between: a tuple.
  ExpressionPtr parseTuple(TupleStyle style);
  ExpressionPtr parseTuple() { return parseTuple(TupleStyle()); }
  /// "| name(arguments)", any number of times; the first without "|" if `inline`.
  ExpressionPtr parseFilters(ExpressionPtr operand, bool bare = false);

private:
  ExpressionPtr make(Expression::Kind kind) const;
  void addPart(Expression &to, ExpressionPtr part) const;
  ExpressionPtr binary(Expression::Kind kind, ExpressionPtr left, ExpressionPtr right,
                       Position at) const;
  bool atTupleEnd(TupleStyle style) const;

  ExpressionPtr parseConditional();
  ExpressionPtr parseOr();
  ExpressionPtr parseAnd();
  ExpressionPtr parseNot();
  ExpressionPtr parseCompare();
  ExpressionPtr parseSum();
  ExpressionPtr parseConcat();
  ExpressionPtr parseProduct();
  ExpressionPtr parsePower();
  ExpressionPtr parseUnary(bool withFilters = true);
  ExpressionPtr parsePrimary();
  ExpressionPtr parseNumber();
  ExpressionPtr parseList();
  ExpressionPtr parseDict();
  ExpressionPtr parsePostfix(ExpressionPtr operand);
  ExpressionPtr parseFiltersAndTests(ExpressionPtr operand);
  ExpressionPtr parseSubscript(ExpressionPtr operand);
  ExpressionPtr parseSlice();
  ExpressionPtr parseTest(ExpressionPtr operand);
  ExpressionPtr parseCall(ExpressionPtr operand);
  void parseArguments(Expression &call);

  std::vector<Token> tokens;
  const Limits &limits;
  size_t index = 0, nesting = 0;
};

} // namespace kernelforge::chat
