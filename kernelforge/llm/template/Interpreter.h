// Evaluates a syntax tree. Everything here throws TemplateError; see Limits.h.
#pragma once

#include "kernelforge/llm/template/Ast.h"

#include <ctime>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

namespace kernelforge::chat {

/// Variables of a scope and where to look next.
struct Frame {
  Frame *outer = nullptr;
  std::unordered_map<std::string, Value> names;
};

class Interpreter {
public:
  Interpreter(const Limits &limits, std::optional<std::tm> now) : budget(limits), now(now) {}

  Text render(const Body &body, std::vector<std::pair<std::string, Value>> variables);

  // For built-in functions, filters, tests and methods:
  Budget budget;
  const std::optional<std::tm> now;

  Value list(std::vector<Value> items, bool isTuple = false) {
    budget.make(items.size() * sizeof(Value));
    return Value::list(std::move(items), budget.limits.valueDepth, isTuple);
  }
  Value mapping(std::vector<std::pair<Value, Value>> entries) {
    budget.make(entries.size() * 2 * sizeof(Value));
    return Value::mapping(std::move(entries), budget.limits.valueDepth);
  }
  Value text(Text text) {
    budget.make(text.size());
    return Value(std::move(text));
  }
  Text toText(const Value &value) {
    Text out = chat::toText(value, budget);
    budget.make(out.size());
    return out;
  }
  /// The items that a loop over the value visits; throws where it cannot be looped over.
  std::vector<Value> items(const Value &value);
  Value attribute(const Value &of, const std::string &name);
  Value item(const Value &of, const Value &key);
  Value callFilter(const std::string &name, const Value &operand, const Arguments &arguments);
  bool callTest(const std::string &name, const Value &operand, const Arguments &arguments);

private:
  enum class Flow { Next, Break, Continue };
  /// Counts a level of evaluation while it lives; throws over the limit.
  struct Level {
    explicit Level(Interpreter &interpreter);
    ~Level() { --interpreter.depth; }
    Interpreter &interpreter;
  };

  Flow execute(const Body &body, Frame &frame, Text &out);
  Flow executeOne(const Statement &statement, Frame &frame, Text &out);
  Flow executeFor(const Statement &statement, Frame &frame, Text &out);
  void assign(const Target &target, const Value &value, Frame &frame);
  void write(Text &out, const Text &text);
  /// Renders a body in a scope of its own.
  Text capture(const Body &body, Frame &frame);

  Value evaluate(const Expression &expression, Frame &frame);
  Value evaluateKind(const Expression &expression, Frame &frame);
  Value evaluateSlice(const Value &of, const Expression &slice, Frame &frame);
  Value evaluateCompare(const Expression &expression, Frame &frame);
  Value evaluateConcat(const Expression &expression, Frame &frame);
  /// A chain of filters whose innermost operand, which has no expression, is `input`.
  Value applyFilters(const Expression &filter, Value input, Frame &frame);
  Arguments evaluateArguments(const Expression &call, Frame &frame);
  Value call(const Value &callee, const Arguments &arguments);
  Value callMacro(const Statement &macro, const Arguments &arguments);
  Value lookUp(const std::string &name, Frame &frame);

  Frame root;
  size_t depth = 0;
};

/// a op b for the arithmetic operators.
Value arithmetic(Op op, const Value &a, const Value &b, Interpreter &interpreter);
Value slice(const Value &of, const Value &start, const Value &stop, const Value &step,
            Interpreter &interpreter);
/// True where `item` is in `container`; throws where that cannot be asked.
bool contains(const Value &container, const Value &item, Budget &budget);

/// Matches the arguments of a call with parameter names; the result has a pointer for each, null
/// where it was not given. Throws for what does not fit.
std::vector<const Value *> bindArguments(const std::string &callee, const Arguments &arguments,
                                         std::span<const std::string_view> parameters);

/// Look-ups of what is built in: null where there is nothing of that name.
Callable::Function findFunction(std::string_view name);
Callable::Function findFilter(std::string_view name);
using TestFunction = bool (*)(Interpreter &, const Value &, const Arguments &);
TestFunction findTest(std::string_view name);
/// A method of values of this kind ("strip" of strings, "items" of dicts).
Callable::Function findMethod(const Value &of, std::string_view name);

} // namespace kernelforge::chat
