#include "kernelforge/llm/template/Parser.h"

#include "kernelforge/llm/template/ExpressionParser.h"

#include <fmt/format.h>
#include <utility>

namespace kernelforge::chat {

namespace {

using Kind = Statement::Kind;

/// Statements; expressions are the base's.
class Parser : public ExpressionParser {
public:
  using ExpressionParser::ExpressionParser;

  Body parseTemplate() {
    Body body = parseBody({});
    if (current().kind != TokenKind::End)
      error("this tag has nothing to end");
    return body;
  }

private:
  std::unique_ptr<Statement> make(Kind kind) const {
    auto out = std::make_unique<Statement>();
    out->kind = kind;
    out->at = current().at;
    return out;
  }

  bool atAny(const std::vector<std::string_view> &names) const {
    for (std::string_view name : names)
      if (atName(name))
        return true;
    return false;
  }

  /// Statements up to a tag that begins with one of `ends`, whose {% is consumed and whose name is
  /// current; without `ends` up to the end of the template.
  Body parseBody(const std::vector<std::string_view> &ends) {
    Nesting nesting(*this);
    Body body;
    while (current().kind != TokenKind::End) {
      if (current().kind == TokenKind::Data) {
        body.push_back(make(Kind::Data));
        body.back()->text = Text(current().text);
        next();
      } else if (current().kind == TokenKind::VariableBegin) {
        body.push_back(make(Kind::Output));
        next();
        body.back()->value = parseTuple();
        expect(TokenKind::VariableEnd, "}}");
      } else {
        next(); // {%
        if (atAny(ends))
          return body;
        body.push_back(parseStatement());
        expect(TokenKind::BlockEnd, "%}");
      }
    }
    if (!ends.empty())
      error(fmt::format("the template ends where {} is expected", ends.back()));
    return body;
  }

  /// The body of a tag up to {% end %}, the name of which is consumed.
  Body parseBlock(std::string_view end) {
    expect(TokenKind::BlockEnd, "%}");
    Body body = parseBody({end});
    next();
    return body;
  }

  std::unique_ptr<Statement> parseStatement() {
    if (current().kind != TokenKind::Name)
      error("a tag begins with a name");
    if (atName("if"))
      return parseIf();
    if (atName("for"))
      return parseFor();
    if (atName("set"))
      return parseSet();
    if (atName("macro"))
      return parseMacro();
    if (atName("with"))
      return parseWith();
    if (atName("filter"))
      return parseFilterBlock();
    if (atName("generation")) {
      auto out = make(Kind::Scope);
      next();
      out->body = parseBlock("endgeneration");
      return out;
    }
    if (atName("break") || atName("continue")) {
      if (loops == 0)
        error(fmt::format("{} outside of a loop", current().text));
      auto out = make(atName("break") ? Kind::Break : Kind::Continue);
      next();
      return out;
    }
    error(fmt::format("the tag {} is not supported", current().text));
  }

  std::unique_ptr<Statement> parseIf() {
    auto out = make(Kind::If);
    do {
      next(); // if, elif
      Statement::Branch branch;
      branch.condition = parseTuple({.conditional = false});
      expect(TokenKind::BlockEnd, "%}");
      branch.body = parseBody({"elif", "else", "endif"});
      out->branches.push_back(std::move(branch));
    } while (atName("elif"));
    if (atName("else")) {
      next();
      out->orElse = parseBlock("endif");
    } else {
      next();
    }
    return out;
  }

  std::unique_ptr<Statement> parseFor() {
    auto out = make(Kind::For);
    next();
    out->target = parseTarget(false);
    if (!atName("in"))
      error("in is expected");
    next();
    out->value = parseTuple({.conditional = false});
    if (atName("if")) {
      next();
      out->condition = parseExpression();
    }
    if (atName("recursive"))
      error("recursive loops are not supported");
    expect(TokenKind::BlockEnd, "%}");
    ++loops;
    out->body = parseBody({"else", "endfor"});
    --loops;
    if (atName("else")) {
      next();
      out->orElse = parseBlock("endfor");
    } else {
      next();
    }
    return out;
  }

  /// Names, or with `mayBeAttribute` an attribute of a namespace.
  Target parseTarget(bool mayBeAttribute) {
    Target target;
    bool parenthesis = atOperator("(");
    if (parenthesis)
      next();
    target.names.push_back(expectTargetName());
    if (mayBeAttribute && !parenthesis && atOperator(".")) {
      next();
      target.attribute = expectName();
      return target;
    }
    while (atOperator(",")) {
      target.unpack = true;
      next();
      if (current().kind != TokenKind::Name || atName("in"))
        break;
      target.names.push_back(expectTargetName());
    }
    if (parenthesis)
      expectOperator(")");
    return target;
  }

  std::string expectTargetName() {
    for (std::string_view name : {"true", "false", "none", "True", "False", "None"})
      if (atName(name))
        error(fmt::format("{} cannot be assigned to", name));
    return expectName();
  }

  std::unique_ptr<Statement> parseSet() {
    auto out = make(Kind::Set);
    next();
    out->target = parseTarget(true);
    if (atOperator("=")) {
      next();
      out->value = parseTuple();
      return out;
    }
    out->kind = Kind::SetBlock;
    if (atOperator("|"))
      out->value = parseFilters(nullptr);
    int outside = std::exchange(loops, 0);
    out->body = parseBlock("endset");
    loops = outside;
    return out;
  }

  std::unique_ptr<Statement> parseMacro() {
    if (loops > 0 || macros > 0)
      error("a macro inside a loop or a macro is not supported");
    auto out = make(Kind::Macro);
    next();
    out->name = expectTargetName();
    expectOperator("(");
    while (!atOperator(")")) {
      if (!out->parameters.empty())
        expectOperator(",");
      if (atOperator(")"))
        break;
      Statement::Parameter parameter;
      parameter.name = expectTargetName();
      if (atOperator("=")) {
        next();
        parameter.fallback = parseExpression();
      } else if (!out->parameters.empty() && out->parameters.back().fallback) {
        error("a parameter without a default follows one with a default");
      }
      out->parameters.push_back(std::move(parameter));
    }
    next();
    ++macros;
    out->body = parseBlock("endmacro");
    --macros;
    return out;
  }

  std::unique_ptr<Statement> parseWith() {
    auto out = make(Kind::With);
    next();
    while (current().kind != TokenKind::BlockEnd) {
      if (!out->assignments.empty())
        expectOperator(",");
      Target target = parseTarget(false);
      expectOperator("=");
      out->assignments.emplace_back(std::move(target), parseExpression());
    }
    out->body = parseBlock("endwith");
    return out;
  }

  std::unique_ptr<Statement> parseFilterBlock() {
    auto out = make(Kind::Filter);
    next();
    out->value = parseFilters(nullptr, true);
    out->body = parseBlock("endfilter");
    return out;
  }

  int loops = 0, macros = 0;
};

} // namespace

Body parse(std::string_view source, const Limits &limits) {
  if (source.size() > limits.templateBytes)
    fail(fmt::format("it has {} bytes, more than {}", source.size(), limits.templateBytes));
  return Parser(lex(source), limits).parseTemplate();
}

} // namespace kernelforge::chat
