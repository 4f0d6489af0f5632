// Methods of strings and dicts, as Python has them. Nothing that changes its value: templates run
// as in an immutable sandbox.

#include "kernelforge/llm/template/Interpreter.h"

#include <array>
#include <fmt/format.h>

namespace kernelforge::chat {

namespace {

/// Checked access to the arguments of a method; methods of strings take them by place.
class Given {
public:
  Given(const char *method, const Arguments &arguments, size_t least, size_t most)
      : method(method), arguments(arguments) {
    size_t count = arguments.positional.size();
    if (!arguments.named.empty() || count < least || count > most)
      fail(fmt::format("{} takes {} to {} arguments without names", method, least, most));
  }
  bool has(size_t i) const { return i < arguments.positional.size(); }
  const Value &value(size_t i) const { return arguments.positional[i]; }
  const Text &text(size_t i) const {
    if (const Text *text = value(i).text())
      return *text;
    fail(fmt::format("{} takes a string, not a value of type {}", method, value(i).typeName()));
  }
  /// None counts as not given.
  const Text *optionalText(size_t i) const {
    return has(i) && !value(i).isNone() ? &text(i) : nullptr;
  }
  int64_t integer(size_t i, int64_t fallback) const {
    if (!has(i))
      return fallback;
    if (auto number = value(i).integer())
      return *number;
    fail(fmt::format("{} takes an integer", method));
  }

private:
  const char *method;
  const Arguments &arguments;
};

template <Side Which>
Value stripMethod(Interpreter &interpreter, const Value &self, const Arguments &arguments) {
  Given given("strip", arguments, 0, 1);
  const Text *chars = given.optionalText(0);
  interpreter.budget.make(self.text()->size());
  if (chars)
    interpreter.budget.step(chars->size() / 16 * (1 + self.text()->size() / 64));
  return interpreter.text(chars ? strip(*self.text(), Which, chars->bytes)
                                : strip(*self.text(), Which));
}

Value textList(Interpreter &interpreter, std::vector<Text> parts) {
  std::vector<Value> items;
  for (Text &part : parts) {
    interpreter.budget.make(part.size() + sizeof(Text) + sizeof(Value));
    items.push_back(Value(std::move(part)));
  }
  return interpreter.list(std::move(items));
}

template <bool FromRight>
Value splitMethod(Interpreter &interpreter, const Value &self, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"sep", "maxsplit"};
  auto bound = bindArguments("split", arguments, names);
  const Text &text = *self.text();
  int64_t limit = -1;
  if (bound[1]) {
    if (!bound[1]->integer())
      fail("split takes an integer as maxsplit");
    limit = *bound[1]->integer();
  }
  // The parts are charged before they are made: each costs more than its bytes.
  auto charge = [&](size_t parts) { interpreter.budget.make(parts * 2 * sizeof(Text)); };
  if (!bound[0] || bound[0]->isNone()) {
    if (FromRight && limit >= 0)
      fail("rsplit at white space with a limit is not supported");
    charge(text.size() / 2 + 1);
    return textList(interpreter, splitWhitespace(text, limit));
  }
  if (!bound[0]->text())
    fail("split takes a string as separator");
  const std::string &separator = bound[0]->text()->bytes;
  if (separator.empty())
    fail("split takes no empty separator");
  size_t found = 0;
  for (size_t at = 0; (at = text.bytes.find(separator, at)) != std::string::npos;
       at += separator.size())
    ++found;
  charge(found + 1);
  interpreter.budget.make(text.size());
  return textList(interpreter, splitOn(text, separator, limit, FromRight));
}

Value splitLinesMethod(Interpreter &interpreter, const Value &self, const Arguments &arguments) {
  Given given("splitlines", arguments, 0, 0);
  interpreter.budget.make(self.text()->size() * sizeof(Text));
  return textList(interpreter, splitLines(*self.text()));
}

/// Does the text begin (or end) with the argument, or with one of a tuple of them?
template <bool Begin>
Value affixMethod(Interpreter &interpreter, const Value &self, const Arguments &arguments) {
  const char *name = Begin ? "startswith" : "endswith";
  Given given(name, arguments, 1, 1);
  const std::string &text = self.text()->bytes;
  auto fits = [&](const Value &affix) {
    interpreter.budget.step();
    if (!affix.text())
      fail(fmt::format("{} takes a string or a tuple of strings", name));
    return Begin ? text.starts_with(affix.text()->bytes) : text.ends_with(affix.text()->bytes);
  };
  if (auto *tuple = given.value(0).sequence(); tuple && tuple->isTuple) {
    for (const Value &affix : tuple->items)
      if (fits(affix))
        return Value(true);
    return Value(false);
  }
  return Value(fits(given.value(0)));
}

template <bool Begin>
Value removeMethod(Interpreter &interpreter, const Value &self, const Arguments &arguments) {
  Given given(Begin ? "removeprefix" : "removesuffix", arguments, 1, 1);
  const Text &text = *self.text(), &affix = given.text(0);
  bool fits = Begin ? text.bytes.starts_with(affix.bytes) : text.bytes.ends_with(affix.bytes);
  if (!fits)
    return self;
  return interpreter.text(text.substr(Begin ? affix.size() : 0, text.size() - affix.size()));
}

template <Text (*Map)(const Text &)>
Value mapMethod(Interpreter &interpreter, const Value &self, const Arguments &arguments) {
  Given given("this method", arguments, 0, 0);
  interpreter.budget.make(4 * self.text()->size()); // conversions make copies on the way
  return interpreter.text(Map(*self.text()));
}

Value replaceMethod(Interpreter &interpreter, const Value &self, const Arguments &arguments) {
  Given given("replace", arguments, 2, 3);
  return Value(replaceAll(*self.text(), given.text(0), given.text(1), given.integer(2, -1),
                          interpreter.budget));
}

template <bool FromRight>
Value findMethodOf(Interpreter &interpreter, const Value &self, const Arguments &arguments) {
  Given given(FromRight ? "rfind" : "find", arguments, 1, 1);
  const std::string &text = self.text()->bytes, &part = given.text(0).bytes;
  interpreter.budget.step(text.size() / 64);
  size_t found = FromRight ? text.rfind(part) : text.find(part);
  if (found == text.npos)
    return Value(int64_t(-1));
  return Value(static_cast<int64_t>(countCodePoints(std::string_view(text).substr(0, found))));
}

/// What stands before the first (or last) occurrence of a separator, the separator, and the rest.
template <bool FromRight>
Value partitionMethod(Interpreter &interpreter, const Value &self, const Arguments &arguments) {
  Given given(FromRight ? "rpartition" : "partition", arguments, 1, 1);
  const Text &text = *self.text(), &separator = given.text(0);
  if (separator.size() == 0)
    fail("partition takes no empty separator");
  interpreter.budget.make(text.size());
  const size_t at =
      FromRight ? text.bytes.rfind(separator.bytes) : text.bytes.find(separator.bytes);
  if (at == std::string::npos)
    return FromRight ? interpreter.list({Value(Text()), Value(Text()), self}, true)
                     : interpreter.list({self, Value(Text()), Value(Text())}, true);
  const size_t end = at + separator.size();
  return interpreter.list({Value(text.substr(0, at)), Value(text.substr(at, separator.size())),
                           Value(text.substr(end, text.size() - end))},
                          true);
}

Value countMethod(Interpreter &interpreter, const Value &self, const Arguments &arguments) {
  Given given("count", arguments, 1, 1);
  const std::string &text = self.text()->bytes, &part = given.text(0).bytes;
  interpreter.budget.step(text.size() / 64);
  if (part.empty())
    return Value(static_cast<int64_t>(countCodePoints(text) + 1));
  int64_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size())
    ++count;
  return Value(count);
}

Value joinMethod(Interpreter &interpreter, const Value &self, const Arguments &arguments) {
  Given given("join", arguments, 1, 1);
  Text out;
  bool first = true;
  for (const Value &item : interpreter.items(given.value(0))) {
    if (!item.text())
      fail(fmt::format("join takes strings, not a value of type {}", item.typeName()));
    interpreter.budget.make(item.text()->size() + self.text()->size());
    if (!first)
      out.append(*self.text());
    first = false;
    out.append(*item.text());
  }
  return Value(std::move(out));
}

Value getMethod(Interpreter &interpreter, const Value &self, const Arguments &arguments) {
  Given given("get", arguments, 1, 2);
  requireKey(given.value(0));
  if (const Value *found = findKey(*self.mapping(), given.value(0), interpreter.budget))
    return *found;
  return given.has(1) ? given.value(1) : Value();
}

enum class Part { Keys, Values, Items };
template <Part Which>
Value entriesMethod(Interpreter &interpreter, const Value &self, const Arguments &arguments) {
  Given given("this method", arguments, 0, 0);
  std::vector<Value> out;
  for (const auto &[key, value] : self.mapping()->entries)
    out.push_back(Which == Part::Keys     ? key
                  : Which == Part::Values ? value
                                          : interpreter.list({key, value}, true));
  return interpreter.list(std::move(out));
}

using Entry = std::pair<std::string_view, Callable::Function>;
constexpr Entry textMethods[] = {
    {"strip", stripMethod<Side::Both>},
    {"lstrip", stripMethod<Side::Left>},
    {"rstrip", stripMethod<Side::Right>},
    {"split", splitMethod<false>},
    {"rsplit", splitMethod<true>},
    {"splitlines", splitLinesMethod},
    {"startswith", affixMethod<true>},
    {"endswith", affixMethod<false>},
    {"removeprefix", removeMethod<true>},
    {"removesuffix", removeMethod<false>},
    {"upper", mapMethod<upper>},
    {"lower", mapMethod<lower>},
    {"title", mapMethod<titleCase>},
    {"capitalize", mapMethod<capitalize>},
    {"replace", replaceMethod},
    {"partition", partitionMethod<false>},
    {"rpartition", partitionMethod<true>},
    {"find", findMethodOf<false>},
    {"rfind", findMethodOf<true>},
    {"count", countMethod},
    {"join", joinMethod},
};
constexpr Entry mappingMethods[] = {
    {"get", getMethod},
    {"keys", entriesMethod<Part::Keys>},
    {"values", entriesMethod<Part::Values>},
    {"items", entriesMethod<Part::Items>},
};

template <size_t Count>
Callable::Function findIn(const Entry (&table)[Count], std::string_view name) {
  for (const auto &[known, function] : table)
    if (known == name)
      return function;
  return nullptr;
}

} // namespace

Callable::Function findMethod(const Value &of, std::string_view name) {
  if (of.text())
    return findIn(textMethods, name);
  return of.mapping() ? findIn(mappingMethods, name) : nullptr;
}

} // namespace kernelforge::chat
