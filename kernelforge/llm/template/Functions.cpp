// Functions that every template may call: range, dict, namespace, raise_exception, strftime_now.

#include "kernelforge/llm/template/Interpreter.h"

#include <array>
#include <ctime>
#include <fmt/format.h>
#include <locale.h>

namespace kernelforge::chat {

namespace {

Value rangeFunction(Interpreter &interpreter, const Value &, const Arguments &arguments) {
  size_t given = arguments.positional.size();
  if (given < 1 || given > 3 || !arguments.named.empty())
    fail("range takes one to three integers");
  std::array<int64_t, 3> numbers{0, 0, 1};
  for (size_t i = 0; i < given; ++i) {
    std::optional<int64_t> number = arguments.positional[i].integer();
    if (!number)
      fail("range takes integers");
    numbers[given == 1 ? 1 : i] = *number;
  }
  auto [begin, end, step] = numbers;
  if (step == 0)
    fail("the step of a range is zero");
  std::vector<Value> items;
  size_t limit = interpreter.budget.limits.rangeLength;
  for (int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (items.size() == limit)
      fail(fmt::format("a range is longer than {}", limit));
    items.push_back(Value(i));
    if (__builtin_add_overflow(i, step, &i))
      break;
  }
  return interpreter.list(std::move(items));
}

/// The entries of dict(mapping, name=value...), which namespace() takes as well.
std::vector<std::pair<Value, Value>> entriesOf(Interpreter &interpreter, const Arguments &arguments,
                                               const char *callee) {
  std::vector<std::pair<Value, Value>> entries;
  if (arguments.positional.size() > 1)
    fail(fmt::format("{} takes at most one argument without a name", callee));
  auto put = [&](const Value &key, const Value &value) {
    requireKey(key);
    for (auto &[name, old] : entries)
      if (equals(name, key, interpreter.budget)) {
        old = value;
        return;
      }
    entries.emplace_back(key, value);
  };
  for (const Value &source : arguments.positional) {
    if (auto *map = source.mapping()) {
      entries = map->entries;
      continue;
    }
    for (const Value &pair : interpreter.items(source)) {
      std::vector<Value> parts = interpreter.items(pair);
      if (parts.size() != 2)
        fail(fmt::format("{} takes a mapping or pairs", callee));
      put(parts[0], parts[1]);
    }
  }
  for (const auto &[name, value] : arguments.named)
    put(Value(Text(name)), value);
  return entries;
}

Value dictFunction(Interpreter &interpreter, const Value &, const Arguments &arguments) {
  return interpreter.mapping(entriesOf(interpreter, arguments, "dict"));
}

Value namespaceFunction(Interpreter &interpreter, const Value &, const Arguments &arguments) {
  auto space = std::make_shared<Namespace>();
  for (auto &[key, value] : entriesOf(interpreter, arguments, "namespace")) {
    if (!key.text())
      fail("the names of a namespace are strings");
    if (value.holdsNamespace())
      fail("a namespace cannot be held by a namespace");
    space->fields.insert_or_assign(key.text()->bytes, std::move(value));
  }
  return Value(Value::Storage(std::move(space)));
}

Value raiseFunction(Interpreter &interpreter, const Value &, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"message"};
  auto given = bindArguments("raise_exception", arguments, names);
  if (!given[0])
    fail("raise_exception needs a message");
  fail(chat::toText(*given[0], interpreter.budget).bytes);
}

Value strftimeFunction(Interpreter &interpreter, const Value &, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"format"};
  auto given = bindArguments("strftime_now", arguments, names);
  if (!given[0] || !given[0]->text() || !interpreter.now)
    fail("strftime_now needs a format");
  const Text &format = *given[0]->text();
  if (format.size() > 256)
    fail("the format of strftime_now is too long");
  std::array<char, 4096> buffer;
  // A format that gives nothing and one that does not fit both return 0: a guard tells them apart.
  std::string guarded = format.bytes.substr(0, format.bytes.find('\0')) + "|";
  // Names of days and months as Python has them, whatever locale the program is in.
  static const locale_t plain = newlocale(LC_ALL_MASK, "C", nullptr);
  size_t length =
      strftime_l(buffer.data(), buffer.size(), guarded.c_str(), &*interpreter.now, plain);
  if (length == 0)
    fail("the format of strftime_now gives too much text");
  return interpreter.text(derived(std::string(buffer.data(), length - 1), format));
}

constexpr std::pair<std::string_view, Callable::Function> functions[] = {
    {"range", rangeFunction},           {"dict", dictFunction},
    {"namespace", namespaceFunction},   {"raise_exception", raiseFunction},
    {"strftime_now", strftimeFunction},
};

} // namespace

Callable::Function findFunction(std::string_view name) {
  for (const auto &[known, function] : functions)
    if (known == name)
      return function;
  return nullptr;
}

} // namespace kernelforge::chat
