// Tests: what may stand after `is`.

#include "kernelforge/llm/template/Interpreter.h"

#include <cmath>
#include <fmt/format.h>

namespace kernelforge::chat {

namespace {

/// The one argument of a test that takes one.
const Value &argumentOf(std::string_view test, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"other"};
  auto given = bindArguments(std::string(test), arguments, names);
  if (!given[0])
    fail(fmt::format("the test {} needs an argument", test));
  return *given[0];
}

void noArguments(const Arguments &arguments) {
  if (!arguments.positional.empty() || !arguments.named.empty())
    fail("this test takes no argument");
}

/// A test of a value alone.
template <bool (*Holds)(const Value &)>
bool simple(Interpreter &, const Value &value, const Arguments &arguments) {
  noArguments(arguments);
  return Holds(value);
}

bool isDefined(const Value &v) { return !v.isUndefined(); }
bool isUndefined(const Value &v) { return v.isUndefined(); }
bool isNone(const Value &v) { return v.isNone(); }
bool isString(const Value &v) { return v.text() != nullptr; }
bool isNumber(const Value &v) { return v.number().has_value(); }
bool isInteger(const Value &v) { return v.get<int64_t>() != nullptr; }
bool isFloat(const Value &v) { return v.get<double>() != nullptr; }
bool isBoolean(const Value &v) { return v.get<bool>() != nullptr; }
bool isTrue(const Value &v) { return isBoolean(v) && *v.get<bool>(); }
bool isFalse(const Value &v) { return isBoolean(v) && !*v.get<bool>(); }
bool isMapping(const Value &v) { return v.mapping() != nullptr; }
bool isCallable(const Value &v) { return v.callable() != nullptr; }
/// What can be looped over; what has a length and items is the same here.
bool isIterable(const Value &v) {
  return v.text() || v.sequence() || v.mapping() || v.isUndefined();
}

bool divides(Interpreter &interpreter, const Value &value, const Value &by) {
  return equals(arithmetic(Op::Mod, value, by, interpreter), Value(int64_t(0)), interpreter.budget);
}
template <bool Odd>
bool parity(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  noArguments(arguments);
  Value rest = arithmetic(Op::Mod, value, Value(int64_t(2)), interpreter);
  return equals(rest, Value(int64_t(Odd)), interpreter.budget);
}
bool divisibleBy(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  return divides(interpreter, value, argumentOf("divisibleby", arguments));
}

bool equalTo(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  return equals(value, argumentOf("equalto", arguments), interpreter.budget);
}
bool notEqual(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  return !equals(value, argumentOf("ne", arguments), interpreter.budget);
}
bool sameAs(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  const Value &other = argumentOf("sameas", arguments);
  return value.typeName() == other.typeName() && equals(value, other, interpreter.budget);
}
template <int Order, bool OrEqual>
bool ordered(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  int order = compare(value, argumentOf("comparison", arguments), interpreter.budget);
  return order == Order || (OrEqual && order == 0);
}
bool isIn(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  return contains(argumentOf("in", arguments), value, interpreter.budget);
}

constexpr std::pair<std::string_view, TestFunction> tests[] = {
    {"defined", simple<isDefined>},
    {"undefined", simple<isUndefined>},
    {"none", simple<isNone>},
    {"string", simple<isString>},
    {"number", simple<isNumber>},
    {"integer", simple<isInteger>},
    {"float", simple<isFloat>},
    {"boolean", simple<isBoolean>},
    {"true", simple<isTrue>},
    {"false", simple<isFalse>},
    {"mapping", simple<isMapping>},
    {"iterable", simple<isIterable>},
    {"sequence", simple<isIterable>},
    {"callable", simple<isCallable>},
    {"even", parity<false>},
    {"odd", parity<true>},
    {"divisibleby", divisibleBy},
    {"equalto", equalTo},
    {"eq", equalTo},
    {"==", equalTo},
    {"ne", notEqual},
    {"!=", notEqual},
    {"sameas", sameAs},
    {"lt", ordered<-1, false>},
    {"lessthan", ordered<-1, false>},
    {"<", ordered<-1, false>},
    {"le", ordered<-1, true>},
    {"<=", ordered<-1, true>},
    {"gt", ordered<1, false>},
    {"greaterthan", ordered<1, false>},
    {">", ordered<1, false>},
    {"ge", ordered<1, true>},
    {">=", ordered<1, true>},
    {"in", isIn},
};

} // namespace

TestFunction findTest(std::string_view name) {
  for (const auto &[known, test] : tests)
    if (known == name)
      return test;
  return nullptr;
}

} // namespace kernelforge::chat
