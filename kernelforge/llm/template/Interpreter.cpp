#include "kernelforge/llm/template/Interpreter.h"

#include "kernelforge/support/Utf8.h"

#include <fmt/format.h>

namespace kernelforge::chat {

using Kind = Expression::Kind;

Interpreter::Level::Level(Interpreter &i) : interpreter(i) {
  if (interpreter.depth >= interpreter.budget.limits.depth)
    fail(fmt::format("it is evaluated more than {} deep", interpreter.budget.limits.depth));
  ++interpreter.depth;
}

Text Interpreter::render(const Body &body, std::vector<std::pair<std::string, Value>> variables) {
  for (auto &[name, value] : variables)
    root.names.insert_or_assign(std::move(name), std::move(value));
  Text out;
  execute(body, root, out);
  return out;
}

void Interpreter::write(Text &out, const Text &text) {
  if (text.size() > budget.limits.outputBytes - std::min(out.size(), budget.limits.outputBytes))
    fail(fmt::format("its output has more than {} bytes", budget.limits.outputBytes));
  budget.make(text.size());
  out.append(text);
}

Interpreter::Flow Interpreter::execute(const Body &body, Frame &frame, Text &out) {
  Level level(*this);
  for (const auto &statement : body) {
    try {
      budget.step();
      Flow flow = executeOne(*statement, frame, out);
      if (flow != Flow::Next)
        return flow;
    } catch (TemplateError &error) {
      if (error.at.line == 0)
        error.at = statement->at;
      throw;
    }
  }
  return Flow::Next;
}

Text Interpreter::capture(const Body &body, Frame &frame) {
  Frame inner{&frame, {}};
  Text out;
  execute(body, inner, out);
  return out;
}

Interpreter::Flow Interpreter::executeOne(const Statement &statement, Frame &frame, Text &out) {
  switch (statement.kind) {
  case Statement::Kind::Data:
    write(out, statement.text);
    return Flow::Next;
  case Statement::Kind::Output:
    write(out, chat::toText(evaluate(*statement.value, frame), budget));
    return Flow::Next;
  case Statement::Kind::If:
    for (const auto &branch : statement.branches)
      if (evaluate(*branch.condition, frame).truthy())
        return execute(branch.body, frame, out);
    return execute(statement.orElse, frame, out);
  case Statement::Kind::For:
    return executeFor(statement, frame, out);
  case Statement::Kind::Set:
    assign(statement.target, evaluate(*statement.value, frame), frame);
    return Flow::Next;
  case Statement::Kind::SetBlock: {
    Value value(capture(statement.body, frame));
    if (statement.value)
      value = applyFilters(*statement.value, std::move(value), frame);
    assign(statement.target, value, frame);
    return Flow::Next;
  }
  case Statement::Kind::With: {
    Frame inner{&frame, {}};
    for (const auto &[target, value] : statement.assignments)
      assign(target, evaluate(*value, frame), inner);
    return execute(statement.body, inner, out);
  }
  case Statement::Kind::Macro: {
    Callable macro;
    macro.name = statement.name;
    macro.macro = &statement;
    frame.names.insert_or_assign(
        statement.name, Value(Value::Storage(std::make_shared<const Callable>(std::move(macro)))));
    return Flow::Next;
  }
  case Statement::Kind::Filter: {
    Value value(capture(statement.body, frame));
    write(out, chat::toText(applyFilters(*statement.value, std::move(value), frame), budget));
    return Flow::Next;
  }
  case Statement::Kind::Scope:
    return execute(statement.body, frame, out);
  case Statement::Kind::Break:
    return Flow::Break;
  case Statement::Kind::Continue:
    return Flow::Continue;
  }
  return Flow::Next;
}

Interpreter::Flow Interpreter::executeFor(const Statement &statement, Frame &frame, Text &out) {
  std::vector<Value> all = items(evaluate(*statement.value, frame));
  if (statement.condition) {
    std::vector<Value> kept;
    for (Value &value : all) {
      Frame inner{&frame, {}};
      assign(statement.target, value, inner);
      if (evaluate(*statement.condition, inner).truthy())
        kept.push_back(std::move(value));
    }
    all = std::move(kept);
  }
  if (all.empty()) {
    Frame inner{&frame, {}};
    return execute(statement.orElse, inner, out);
  }
  auto sequence = std::make_shared<Sequence>();
  for (const Value &value : all) {
    sequence->depth = std::max(sequence->depth, value.depth() + 1);
    sequence->holdsNamespace |= value.holdsNamespace();
  }
  sequence->items = std::move(all);
  for (size_t i = 0; i < sequence->items.size(); ++i) {
    budget.step();
    Frame inner{&frame, {}};
    Loop loop{sequence, i};
    inner.names.emplace("loop", Value(Value::Storage(std::make_shared<const Loop>(loop))));
    assign(statement.target, sequence->items[i], inner);
    if (execute(statement.body, inner, out) == Flow::Break)
      break;
  }
  return Flow::Next;
}

void Interpreter::assign(const Target &target, const Value &value, Frame &frame) {
  if (!target.attribute.empty()) {
    Value owner = lookUp(target.names[0], frame);
    Namespace *space = owner.space();
    if (!space)
      fail(fmt::format("an attribute of {} cannot be set: it is no namespace", target.names[0]));
    if (value.holdsNamespace())
      fail("a namespace cannot be held by a namespace");
    space->fields.insert_or_assign(target.attribute, value);
    return;
  }
  if (!target.unpack) {
    frame.names.insert_or_assign(target.names[0], value);
    return;
  }
  std::vector<Value> parts = items(value);
  if (parts.size() != target.names.size())
    fail(fmt::format("{} values cannot be unpacked into {} names", parts.size(),
                     target.names.size()));
  for (size_t i = 0; i < parts.size(); ++i)
    frame.names.insert_or_assign(target.names[i], std::move(parts[i]));
}

std::vector<Value> Interpreter::items(const Value &value) {
  if (value.isUndefined())
    return {};
  std::vector<Value> out;
  if (auto *list = value.sequence()) {
    budget.make(list->items.size() * sizeof(Value));
    return list->items;
  }
  if (auto *map = value.mapping()) {
    budget.make(map->entries.size() * sizeof(Value));
    for (const auto &[key, ignored] : map->entries)
      out.push_back(key);
    return out;
  }
  if (auto *text = value.text()) {
    for (size_t i = 0; i < text->size();) {
      size_t length = decodeUtf8(std::string_view(text->bytes).substr(i)).length;
      budget.make(sizeof(Value) + sizeof(Text));
      out.push_back(Value(text->substr(i, length)));
      i += length;
    }
    return out;
  }
  fail(fmt::format("a value of type {} cannot be looped over", value.typeName()));
}

Value Interpreter::lookUp(const std::string &name, Frame &frame) {
  for (Frame *at = &frame; at; at = at->outer)
    if (auto found = at->names.find(name); found != at->names.end())
      return found->second;
  if (Callable::Function function = findFunction(name); function && (now || name != "strftime_now"))
    return Value(
        Value::Storage(std::make_shared<const Callable>(Callable{name, function, nullptr, {}})));
  return Value::undefined(fmt::format("'{}' is undefined", name));
}

Value Interpreter::evaluate(const Expression &expression, Frame &frame) {
  Level level(*this);
  budget.step();
  try {
    return evaluateKind(expression, frame);
  } catch (TemplateError &error) {
    if (error.at.line == 0)
      error.at = expression.at;
    throw;
  }
}

Value Interpreter::evaluateKind(const Expression &e, Frame &frame) {
  auto part = [&](size_t i) { return evaluate(*e.parts[i], frame); };
  switch (e.kind) {
  case Kind::Constant:
    return e.value;
  case Kind::Name:
    return lookUp(e.name, frame);
  case Kind::List:
  case Kind::Tuple: {
    std::vector<Value> values;
    for (size_t i = 0; i < e.parts.size(); ++i)
      values.push_back(part(i));
    return list(std::move(values), e.kind == Kind::Tuple);
  }
  case Kind::Dict: {
    std::vector<std::pair<Value, Value>> entries;
    for (size_t i = 0; i + 1 < e.parts.size(); i += 2) {
      Value key = part(i), value = part(i + 1);
      requireKey(key);
      bool known = false;
      for (auto &[name, old] : entries)
        if (equals(name, key, budget)) {
          old = value;
          known = true;
        }
      if (!known)
        entries.emplace_back(std::move(key), std::move(value));
    }
    return mapping(std::move(entries));
  }
  case Kind::Attribute:
    return attribute(part(0), e.name);
  case Kind::Item: {
    Value of = part(0);
    if (e.parts[1]->kind == Kind::Slice)
      return evaluateSlice(of, *e.parts[1], frame);
    return item(of, part(1));
  }
  case Kind::Slice:
    fail("a slice stands alone");
  case Kind::Call: {
    Value callee = part(0);
    return call(callee, evaluateArguments(e, frame));
  }
  case Kind::Filter: {
    Value operand = part(0);
    return callFilter(e.name, operand, evaluateArguments(e, frame));
  }
  case Kind::Test: {
    Value operand = part(0);
    return Value(callTest(e.name, operand, evaluateArguments(e, frame)));
  }
  case Kind::Not:
    return Value(!part(0).truthy());
  case Kind::Negative:
  case Kind::Positive: {
    Value value = part(0);
    requireDefined(value);
    if (!value.number())
      fail(fmt::format("a value of type {} has no sign", value.typeName()));
    if (e.kind == Kind::Positive)
      return value.integer() ? Value(*value.integer()) : value;
    return value.integer() ? arithmetic(Op::Sub, Value(int64_t(0)), value, *this)
                           : Value(-*value.number());
  }
  case Kind::Binary: {
    Value left = part(0), right = part(1);
    return arithmetic(e.ops[0], left, right, *this);
  }
  case Kind::Compare:
    return evaluateCompare(e, frame);
  case Kind::And: {
    Value left = part(0);
    return left.truthy() ? part(1) : left;
  }
  case Kind::Or: {
    Value left = part(0);
    return left.truthy() ? left : part(1);
  }
  case Kind::Concat:
    return evaluateConcat(e, frame);
  case Kind::Conditional:
    if (part(1).truthy())
      return part(0);
    return e.parts[2] ? part(2)
                      : Value::undefined("the inline if has no else and its condition is false");
  }
  return {};
}

Value Interpreter::evaluateSlice(const Value &of, const Expression &slice, Frame &frame) {
  Value ends[3];
  for (size_t i = 0; i < 3; ++i)
    if (slice.parts[i])
      ends[i] = evaluate(*slice.parts[i], frame);
  return chat::slice(of, ends[0], ends[1], ends[2], *this);
}

Value Interpreter::evaluateCompare(const Expression &e, Frame &frame) {
  Value left = evaluate(*e.parts[0], frame);
  for (size_t i = 0; i < e.ops.size(); ++i) {
    Value right = evaluate(*e.parts[i + 1], frame);
    auto order = [&] { return compare(left, right, budget); };
    bool holds = false;
    switch (e.ops[i]) {
    case Op::Eq:
      holds = equals(left, right, budget);
      break;
    case Op::Ne:
      holds = !equals(left, right, budget);
      break;
    case Op::Lt:
      holds = order() == -1;
      break;
    case Op::Le: {
      int o = order();
      holds = o == -1 || o == 0;
      break;
    }
    case Op::Gt:
      holds = order() == 1;
      break;
    case Op::Ge: {
      int o = order();
      holds = o == 1 || o == 0;
      break;
    }
    default:
      holds = contains(right, left, budget) == (e.ops[i] == Op::In);
    }
    if (!holds)
      return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Interpreter::evaluateConcat(const Expression &e, Frame &frame) {
  Text out;
  for (const auto &part : e.parts) {
    Text text = chat::toText(evaluate(*part, frame), budget);
    budget.make(text.size());
    out.append(text);
  }
  return Value(std::move(out));
}

Value Interpreter::applyFilters(const Expression &filter, Value input, Frame &frame) {
  Level level(*this);
  if (filter.parts[0])
    input = applyFilters(*filter.parts[0], std::move(input), frame);
  return callFilter(filter.name, input, evaluateArguments(filter, frame));
}

Arguments Interpreter::evaluateArguments(const Expression &call, Frame &frame) {
  Arguments out;
  for (size_t i = 1; i < call.parts.size(); ++i)
    out.positional.push_back(evaluate(*call.parts[i], frame));
  for (const NamedArgument &argument : call.named) {
    for (const auto &[name, ignored] : out.named)
      if (name == argument.name)
        fail(fmt::format("the argument {} is given twice", name));
    out.named.emplace_back(argument.name, evaluate(*argument.value, frame));
  }
  return out;
}

Value Interpreter::call(const Value &callee, const Arguments &arguments) {
  requireDefined(callee);
  const Callable *callable = callee.callable();
  if (!callable)
    fail(fmt::format("a value of type {} cannot be called", callee.typeName()));
  if (callable->macro)
    return callMacro(*callable->macro, arguments);
  return callable->function(*this, callable->self ? *callable->self : Value(), arguments);
}

Value Interpreter::callMacro(const Statement &macro, const Arguments &arguments) {
  std::vector<std::string_view> names;
  for (const auto &parameter : macro.parameters)
    names.push_back(parameter.name);
  std::vector<const Value *> given = bindArguments(macro.name, arguments, names);
  Frame frame{&root, {}};
  for (size_t i = 0; i < given.size(); ++i) {
    const auto &parameter = macro.parameters[i];
    Value value =
        given[i] ? *given[i]
        : parameter.fallback
            ? evaluate(*parameter.fallback, frame)
            : Value::undefined(fmt::format("parameter '{}' was not provided", parameter.name));
    frame.names.insert_or_assign(parameter.name, std::move(value));
  }
  Text out;
  execute(macro.body, frame, out);
  return Value(std::move(out));
}

Value Interpreter::callFilter(const std::string &name, const Value &operand,
                              const Arguments &arguments) {
  Callable::Function filter = findFilter(name);
  if (!filter)
    fail(fmt::format("there is no filter {}", name));
  return filter(*this, operand, arguments);
}

bool Interpreter::callTest(const std::string &name, const Value &operand,
                           const Arguments &arguments) {
  TestFunction test = findTest(name);
  if (!test)
    fail(fmt::format("there is no test {}", name));
  return test(*this, operand, arguments);
}

} // namespace kernelforge::chat
