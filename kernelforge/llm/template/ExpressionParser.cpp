#include "kernelforge/llm/template/ExpressionParser.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fmt/format.h>

namespace kernelforge::chat {

using Kind = Expression::Kind;

ExpressionParser::Nesting::Nesting(ExpressionParser &p) : parser(p) {
  if (parser.nesting >= parser.limits.nesting)
    parser.error(fmt::format("it is nested more than {} deep", parser.limits.nesting));
  ++parser.nesting;
}

void ExpressionParser::error(std::string message) const {
  throw TemplateError{std::move(message), current().at};
}

void ExpressionParser::expect(TokenKind kind, std::string_view shown) {
  if (current().kind != kind)
    error(fmt::format("{} is expected", shown));
  next();
}

void ExpressionParser::expectOperator(std::string_view op) {
  if (!atOperator(op))
    error(fmt::format("\"{}\" is expected", op));
  next();
}

std::string ExpressionParser::expectName() {
  if (current().kind != TokenKind::Name)
    error("a name is expected");
  std::string name = current().text;
  next();
  return name;
}

ExpressionPtr ExpressionParser::make(Kind kind) const {
  auto out = std::make_unique<Expression>();
  out->kind = kind;
  out->at = current().at;
  return out;
}

void ExpressionParser::addPart(Expression &to, ExpressionPtr part) const {
  if (part) {
    to.height = std::max(to.height, part->height + 1);
    // A chain ("a + b + c", "x.y.z") grows a tree without nesting in the text.
    if (to.height > 2 * limits.nesting)
      throw TemplateError{fmt::format("an expression is more than {} deep", 2 * limits.nesting),
                          to.at};
  }
  to.parts.push_back(std::move(part));
}

ExpressionPtr ExpressionParser::binary(Kind kind, ExpressionPtr left, ExpressionPtr right,
                                       Position at) const {
  ExpressionPtr out = make(kind);
  out->at = at;
  addPart(*out, std::move(left));
  addPart(*out, std::move(right));
  return out;
}

bool ExpressionParser::atTupleEnd(TupleStyle style) const {
  return current().kind == TokenKind::VariableEnd || current().kind == TokenKind::BlockEnd ||
         (style.parentheses && atOperator(")"));
}

ExpressionPtr ExpressionParser::parseTuple(TupleStyle style) {
  ExpressionPtr tuple = make(Kind::Tuple);
  bool isTuple = false;
  while (!atTupleEnd(style)) {
    addPart(*tuple, style.conditional ? parseConditional() : parseOr());
    if (!atOperator(","))
      break;
    isTuple = true;
    next();
  }
  if (isTuple)
    return tuple;
  if (tuple->parts.empty()) {
    if (!style.parentheses)
      error("an expression is expected");
    return tuple;
  }
  return std::move(tuple->parts[0]);
}

ExpressionPtr ExpressionParser::parseConditional() {
  Nesting level(*this);
  ExpressionPtr left = parseOr();
  while (atName("if")) {
    ExpressionPtr out = make(Kind::Conditional);
    next();
    addPart(*out, std::move(left));
    addPart(*out, parseOr());
    if (atName("else")) {
      next();
      addPart(*out, parseConditional());
    } else {
      addPart(*out, nullptr);
    }
    left = std::move(out);
  }
  return left;
}

ExpressionPtr ExpressionParser::parseOr() {
  ExpressionPtr left = parseAnd();
  while (atName("or")) {
    Position at = current().at;
    next();
    left = binary(Kind::Or, std::move(left), parseAnd(), at);
  }
  return left;
}

ExpressionPtr ExpressionParser::parseAnd() {
  ExpressionPtr left = parseNot();
  while (atName("and")) {
    Position at = current().at;
    next();
    left = binary(Kind::And, std::move(left), parseNot(), at);
  }
  return left;
}

ExpressionPtr ExpressionParser::parseNot() {
  if (!atName("not"))
    return parseCompare();
  Nesting level(*this);
  ExpressionPtr out = make(Kind::Not);
  next();
  addPart(*out, parseNot());
  return out;
}

ExpressionPtr ExpressionParser::parseCompare() {
  static constexpr std::pair<std::string_view, Op> operators[] = {
      {"==", Op::Eq}, {"!=", Op::Ne}, {"<", Op::Lt}, {"<=", Op::Le}, {">", Op::Gt}, {">=", Op::Ge}};
  ExpressionPtr first = parseSum();
  ExpressionPtr out = make(Kind::Compare);
  while (true) {
    auto found = std::find_if(std::begin(operators), std::end(operators),
                              [&](const auto &entry) { return atOperator(entry.first); });
    if (found != std::end(operators)) {
      next();
      out->ops.push_back(found->second);
    } else if (atName("in")) {
      next();
      out->ops.push_back(Op::In);
    } else if (atName("not") && look().kind == TokenKind::Name && look().text == "in") {
      next();
      next();
      out->ops.push_back(Op::NotIn);
    } else {
      break;
    }
    if (out->parts.empty())
      addPart(*out, std::move(first));
    addPart(*out, parseSum());
  }
  return out->parts.empty() ? std::move(first) : std::move(out);
}

ExpressionPtr ExpressionParser::parseSum() {
  ExpressionPtr left = parseConcat();
  while (atOperator("+") || atOperator("-")) {
    Op op = atOperator("+") ? Op::Add : Op::Sub;
    Position at = current().at;
    next();
    left = binary(Kind::Binary, std::move(left), parseConcat(), at);
    left->ops.push_back(op);
  }
  return left;
}

ExpressionPtr ExpressionParser::parseConcat() {
  ExpressionPtr first = parseProduct();
  if (!atOperator("~"))
    return first;
  ExpressionPtr out = make(Kind::Concat);
  addPart(*out, std::move(first));
  while (atOperator("~")) {
    next();
    addPart(*out, parseProduct());
  }
  return out;
}

ExpressionPtr ExpressionParser::parseProduct() {
  static constexpr std::pair<std::string_view, Op> operators[] = {
      {"*", Op::Mul}, {"/", Op::Div}, {"//", Op::FloorDiv}, {"%", Op::Mod}};
  ExpressionPtr left = parsePower();
  while (true) {
    auto found = std::find_if(std::begin(operators), std::end(operators),
                              [&](const auto &entry) { return atOperator(entry.first); });
    if (found == std::end(operators))
      return left;
    Position at = current().at;
    next();
    left = binary(Kind::Binary, std::move(left), parsePower(), at);
    left->ops.push_back(found->second);
  }
}

ExpressionPtr ExpressionParser::parsePower() {
  ExpressionPtr left = parseUnary();
  while (atOperator("**")) { // from left to right, unlike Python: as Jinja has it
    Position at = current().at;
    next();
    left = binary(Kind::Binary, std::move(left), parseUnary(), at);
    left->ops.push_back(Op::Pow);
  }
  return left;
}

ExpressionPtr ExpressionParser::parseUnary(bool withFilters) {
  ExpressionPtr out;
  if (atOperator("-") || atOperator("+")) {
    Nesting level(*this);
    out = make(atOperator("-") ? Kind::Negative : Kind::Positive);
    next();
    addPart(*out, parseUnary(false));
  } else {
    out = parsePrimary();
  }
  out = parsePostfix(std::move(out));
  return withFilters ? parseFiltersAndTests(std::move(out)) : std::move(out);
}

ExpressionPtr ExpressionParser::parsePrimary() {
  ExpressionPtr out = make(Kind::Constant);
  const Token &token = current();
  if (token.kind == TokenKind::Name) {
    if (token.text == "true" || token.text == "True" || token.text == "false" ||
        token.text == "False") {
      out->value = Value(token.text == "true" || token.text == "True");
    } else if (token.text != "none" && token.text != "None") {
      out->kind = Kind::Name;
      out->name = token.text;
    }
    next();
    return out;
  }
  if (token.kind == TokenKind::String) {
    std::string text;
    for (; current().kind == TokenKind::String; next())
      text += current().text;
    out->value = Value(Text(std::move(text)));
    return out;
  }
  if (token.kind == TokenKind::Integer || token.kind == TokenKind::Float)
    return parseNumber();
  if (atOperator("(")) {
    next();
    out = parseTuple({.parentheses = true});
    expectOperator(")");
    return out;
  }
  if (atOperator("["))
    return parseList();
  if (atOperator("{"))
    return parseDict();
  error("an expression is expected");
}

ExpressionPtr ExpressionParser::parseNumber() {
  ExpressionPtr out = make(Kind::Constant);
  std::string_view text = current().text;
  if (current().kind == TokenKind::Float) {
    double value = 0;
    auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code == std::errc::result_out_of_range) // infinity or zero, as in Python
      value = std::strtod(std::string(text).c_str(), nullptr);
    else if (code != std::errc() || end != text.data() + text.size())
      error("a number is malformed");
    out->value = Value(value);
  } else {
    int base = 10;
    if (text.size() > 1 && text[0] == '0' && text[1] > '9') {
      base = text[1] == 'x' ? 16 : text[1] == 'o' ? 8 : 2;
      text.remove_prefix(2);
    }
    int64_t value = 0;
    auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (code != std::errc() || end != text.data() + text.size())
      error("a number is malformed or out of range");
    out->value = Value(value);
  }
  next();
  return out;
}

ExpressionPtr ExpressionParser::parseList() {
  ExpressionPtr out = make(Kind::List);
  next();
  while (!atOperator("]")) {
    if (!out->parts.empty())
      expectOperator(",");
    if (atOperator("]"))
      break;
    addPart(*out, parseExpression());
  }
  next();
  return out;
}

ExpressionPtr ExpressionParser::parseDict() {
  ExpressionPtr out = make(Kind::Dict);
  next();
  while (!atOperator("}")) {
    if (!out->parts.empty())
      expectOperator(",");
    if (atOperator("}"))
      break;
    addPart(*out, parseExpression());
    expectOperator(":");
    addPart(*out, parseExpression());
  }
  next();
  return out;
}

ExpressionPtr ExpressionParser::parsePostfix(ExpressionPtr out) {
  while (true) {
    if (atOperator(".") || atOperator("["))
      out = parseSubscript(std::move(out));
    else if (atOperator("("))
      out = parseCall(std::move(out));
    else
      return out;
  }
}

ExpressionPtr ExpressionParser::parseFiltersAndTests(ExpressionPtr out) {
  while (true) {
    if (atOperator("|"))
      out = parseFilters(std::move(out));
    else if (atName("is"))
      out = parseTest(std::move(out));
    else if (atOperator("("))
      out = parseCall(std::move(out));
    else
      return out;
  }
}

ExpressionPtr ExpressionParser::parseSubscript(ExpressionPtr operand) {
  ExpressionPtr out = make(Kind::Item);
  bool dot = atOperator(".");
  next();
  if (dot && current().kind == TokenKind::Name) {
    out->kind = Kind::Attribute;
    out->name = current().text;
    addPart(*out, std::move(operand));
    next();
    return out;
  }
  addPart(*out, std::move(operand));
  if (dot) {
    if (current().kind != TokenKind::Integer)
      error("a name or a number is expected");
    addPart(*out, parseNumber());
    return out;
  }
  addPart(*out, parseSlice());
  if (atOperator(","))
    error("an index of several parts is not supported");
  expectOperator("]");
  return out;
}

ExpressionPtr ExpressionParser::parseSlice() {
  ExpressionPtr slice = make(Kind::Slice);
  ExpressionPtr first;
  if (!atOperator(":")) {
    first = parseExpression();
    if (!atOperator(":"))
      return first;
  }
  addPart(*slice, std::move(first));
  for (int part = 1; part < 3; ++part) {
    bool given = atOperator(":");
    if (given)
      next();
    bool empty = !given || atOperator(":") || atOperator("]") || atOperator(",");
    addPart(*slice, empty ? nullptr : parseExpression());
  }
  return slice;
}

ExpressionPtr ExpressionParser::parseFilters(ExpressionPtr operand, bool bare) {
  while (bare || atOperator("|")) {
    if (!bare)
      next();
    bare = false;
    ExpressionPtr out = make(Kind::Filter);
    out->name = expectName();
    addPart(*out, std::move(operand));
    if (atOperator("("))
      parseArguments(*out);
    operand = std::move(out);
  }
  return operand;
}

ExpressionPtr ExpressionParser::parseTest(ExpressionPtr operand) {
  ExpressionPtr out = make(Kind::Test);
  next(); // is
  bool negated = atName("not");
  if (negated)
    next();
  out->name = expectName();
  addPart(*out, std::move(operand));
  TokenKind kind = current().kind;
  bool value = kind == TokenKind::Name || kind == TokenKind::String || kind == TokenKind::Integer ||
               kind == TokenKind::Float || atOperator("[") || atOperator("{");
  if (atOperator("(")) {
    parseArguments(*out);
  } else if (value && !atName("else") && !atName("or") && !atName("and")) {
    if (atName("is"))
      error("tests cannot be chained with is");
    addPart(*out, parsePostfix(parsePrimary()));
  }
  if (!negated)
    return out;
  ExpressionPtr inverse = make(Kind::Not);
  addPart(*inverse, std::move(out));
  return inverse;
}

ExpressionPtr ExpressionParser::parseCall(ExpressionPtr operand) {
  ExpressionPtr out = make(Kind::Call);
  addPart(*out, std::move(operand));
  parseArguments(*out);
  return out;
}

void ExpressionParser::parseArguments(Expression &call) {
  expectOperator("(");
  bool first = true;
  while (!atOperator(")")) {
    if (!first)
      expectOperator(",");
    first = false;
    if (atOperator(")"))
      break;
    if (atOperator("*") || atOperator("**"))
      error("unpacking of arguments is not supported");
    if (current().kind == TokenKind::Name && look().kind == TokenKind::Operator &&
        look().text == "=") {
      NamedArgument argument{current().text, nullptr};
      next();
      next();
      argument.value = parseExpression();
      call.height = std::max(call.height, argument.value->height + 1);
      call.named.push_back(std::move(argument));
    } else {
      if (!call.named.empty())
        error("an argument without a name follows one with a name");
      addPart(call, parseExpression());
    }
  }
  next();
}

} // namespace kernelforge::chat
