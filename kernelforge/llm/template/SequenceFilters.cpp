// Filters over sequences. What gives a generator in Jinja gives a list here.

#include "kernelforge/llm/template/FilterTables.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>

namespace kernelforge::chat {

namespace {

Value lengthFilter(Interpreter &, const Value &value, const Arguments &arguments) {
  bindArguments("length", arguments, {});
  if (value.isUndefined())
    return Value(int64_t(0));
  if (auto *text = value.text())
    return Value(static_cast<int64_t>(countCodePoints(text->bytes)));
  if (auto *list = value.sequence())
    return Value(static_cast<int64_t>(list->items.size()));
  if (auto *map = value.mapping())
    return Value(static_cast<int64_t>(map->entries.size()));
  fail(fmt::format("a value of type {} has no length", value.typeName()));
}

template <bool First>
Value endFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  bindArguments(First ? "first" : "last", arguments, {});
  std::vector<Value> items = interpreter.items(value);
  if (items.empty())
    return Value::undefined("a sequence without items has no first and no last");
  return First ? items.front() : items.back();
}

Value listFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  bindArguments("list", arguments, {});
  return interpreter.list(interpreter.items(value));
}

Value reverseFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  bindArguments("reverse", arguments, {});
  if (auto *text = value.text())
    return interpreter.text(reversed(*text));
  std::vector<Value> items = interpreter.items(value);
  std::reverse(items.begin(), items.end());
  return interpreter.list(std::move(items));
}

/// The pairs of a dict, as tuples.
std::vector<Value> pairsOf(Interpreter &interpreter, const Value &value) {
  if (!value.mapping())
    fail(fmt::format("a value of type {} has no items", value.typeName()));
  std::vector<Value> out;
  for (const auto &[key, item] : value.mapping()->entries)
    out.push_back(interpreter.list({key, item}, true));
  return out;
}

Value itemsFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  bindArguments("items", arguments, {});
  return interpreter.list(value.isUndefined() ? std::vector<Value>() : pairsOf(interpreter, value));
}

/// The attribute of a value that a dotted path names; numbers in it are indices. What is not there
/// is `fallback` if there is one, at each part of the path.
Value attributeAt(Interpreter &interpreter, const Value &value, const Value &path,
                  const Value *fallback = nullptr) {
  auto itemOr = [&](const Value &of, const Value &key) {
    Value item = interpreter.item(of, key);
    return item.isUndefined() && fallback && !fallback->isNone() ? *fallback : item;
  };
  if (path.integer())
    return itemOr(value, path);
  if (!path.text())
    fail("an attribute is named by a string or an integer");
  Value at = value;
  for (const Text &part : splitOn(*path.text(), ".", -1, false)) {
    int64_t index = 0;
    const char *end = part.bytes.data() + part.size();
    auto [last, code] = std::from_chars(part.bytes.data(), end, index);
    bool isNumber = code == std::errc() && last == end && part.bytes[0] != '-';
    at = itemOr(at, isNumber ? Value(index) : Value(part));
  }
  return at;
}

Value joinFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"d", "attribute"};
  auto given = bindArguments("join", arguments, names);
  Text separator = given[0] ? interpreter.toText(*given[0]) : Text();
  Text out;
  bool first = true;
  for (const Value &item : interpreter.items(value)) {
    if (!first) {
      interpreter.budget.make(separator.size());
      out.append(separator);
    }
    first = false;
    bool mapped = given[1] && !given[1]->isNone();
    out.append(interpreter.toText(mapped ? attributeAt(interpreter, item, *given[1]) : item));
  }
  return Value(std::move(out));
}

/// The arguments behind the first `skip`.
Arguments rest(const Arguments &arguments, size_t skip) {
  Arguments out;
  out.named = arguments.named;
  if (arguments.positional.size() > skip)
    out.positional.assign(arguments.positional.begin() + skip, arguments.positional.end());
  return out;
}

std::string nameArgument(const char *filter, const Arguments &arguments, size_t place) {
  if (arguments.positional.size() <= place || !arguments.positional[place].text())
    fail(fmt::format("{} needs a name as argument {}", filter, place + 1));
  return arguments.positional[place].text()->bytes;
}

/// What map and select look at: values that count as false give nothing, whatever they are.
std::vector<Value> itemsIfAny(Interpreter &interpreter, const Value &value) {
  return value.truthy() ? interpreter.items(value) : std::vector<Value>();
}

/// map(attribute=..., default=...) or map("filter", arguments...).
Value mapFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  std::vector<Value> out;
  if (arguments.positional.empty()) {
    static constexpr std::string_view names[] = {"attribute", "default"};
    auto given = bindArguments("map", arguments, names);
    if (!given[0])
      fail("map needs a filter or an attribute");
    for (const Value &item : itemsIfAny(interpreter, value))
      out.push_back(attributeAt(interpreter, item, *given[0], given[1]));
    return interpreter.list(std::move(out));
  }
  std::string filter = nameArgument("map", arguments, 0);
  Arguments remaining = rest(arguments, 1);
  for (const Value &item : itemsIfAny(interpreter, value))
    out.push_back(interpreter.callFilter(filter, item, remaining));
  return interpreter.list(std::move(out));
}

/// select, reject, selectattr, rejectattr: keeps the items for which a test holds (or does not).
template <bool Keep, bool ByAttribute>
Value selectFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  size_t place = ByAttribute ? 1 : 0;
  if (ByAttribute && arguments.positional.empty())
    fail("the name of an attribute is needed");
  bool tests = arguments.positional.size() > place;
  std::string test = tests ? nameArgument("select", arguments, place) : "";
  Arguments remaining = rest(arguments, place + 1);
  std::vector<Value> out;
  for (Value &item : itemsIfAny(interpreter, value)) {
    Value asked = ByAttribute ? attributeAt(interpreter, item, arguments.positional[0]) : item;
    bool holds = tests ? interpreter.callTest(test, asked, remaining) : asked.truthy();
    if (holds == Keep)
      out.push_back(std::move(item));
  }
  return interpreter.list(std::move(out));
}

/// What an item is ordered by: itself or an attribute, letters of either case alike unless asked.
std::vector<Value> keysOf(Interpreter &interpreter, const std::vector<Value> &items,
                          const Value *attribute, bool caseSensitive) {
  std::vector<Value> keys;
  for (const Value &item : items) {
    bool mapped = attribute && !attribute->isNone();
    Value key = mapped ? attributeAt(interpreter, item, *attribute) : item;
    if (auto *text = key.text(); text && !caseSensitive)
      key = interpreter.text(lower(*text));
    keys.push_back(std::move(key));
  }
  return keys;
}

/// `items` in the order of their `keys`.
Value sorted(Interpreter &interpreter, const std::vector<Value> &items,
             const std::vector<Value> &keys, bool reverse) {
  std::vector<Value> out;
  for (size_t i : stableOrder(items.size(), [&](size_t a, size_t b) {
         return compare(keys[a], keys[b], interpreter.budget) == (reverse ? 1 : -1);
       }))
    out.push_back(items[i]);
  return interpreter.list(std::move(out));
}

Value sortFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"reverse", "case_sensitive", "attribute"};
  auto given = bindArguments("sort", arguments, names);
  bool reverse = given[0] && given[0]->truthy();
  if (given[2] && given[2]->text() && given[2]->text()->bytes.find(',') != std::string::npos)
    fail("sorting by several attributes is not supported");
  std::vector<Value> items = interpreter.items(value);
  std::vector<Value> keys = keysOf(interpreter, items, given[2], given[1] && given[1]->truthy());
  return sorted(interpreter, items, keys, reverse);
}

/// The pairs of a dict in the order of its keys, or of its values.
Value dictSortFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"case_sensitive", "by", "reverse"};
  auto given = bindArguments("dictsort", arguments, names);
  const std::string by = given[1] && given[1]->text() ? given[1]->text()->bytes : "";
  if (given[1] && by != "key" && by != "value")
    fail("dictsort sorts by 'key' or by 'value'");
  const std::vector<Value> items = pairsOf(interpreter, value);
  const Value place(int64_t(by == "value"));
  const std::vector<Value> keys =
      keysOf(interpreter, items, &place, given[0] && given[0]->truthy());
  return sorted(interpreter, items, keys, given[2] && given[2]->truthy());
}

Value uniqueFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"case_sensitive", "attribute"};
  auto given = bindArguments("unique", arguments, names);
  std::vector<Value> items = interpreter.items(value), seen, out;
  std::vector<Value> keys = keysOf(interpreter, items, given[1], given[0] && given[0]->truthy());
  for (size_t i = 0; i < items.size(); ++i) {
    bool known = std::any_of(seen.begin(), seen.end(), [&](const Value &other) {
      return equals(keys[i], other, interpreter.budget);
    });
    if (known)
      continue;
    requireKey(keys[i]);
    seen.push_back(keys[i]);
    out.push_back(items[i]);
  }
  return interpreter.list(std::move(out));
}

template <int Wanted>
Value extremeFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"case_sensitive", "attribute"};
  auto given = bindArguments(Wanted < 0 ? "min" : "max", arguments, names);
  std::vector<Value> items = interpreter.items(value);
  if (items.empty())
    return Value::undefined("a sequence without items has no least and no greatest");
  std::vector<Value> keys = keysOf(interpreter, items, given[1], given[0] && given[0]->truthy());
  size_t best = 0;
  for (size_t i = 1; i < items.size(); ++i)
    if (compare(keys[i], keys[best], interpreter.budget) == Wanted)
      best = i;
  return items[best];
}

Value sumFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"attribute", "start"};
  auto given = bindArguments("sum", arguments, names);
  Value total = given[1] ? *given[1] : Value(int64_t(0));
  for (const Value &item : interpreter.items(value)) {
    bool mapped = given[0] && !given[0]->isNone();
    Value term = mapped ? attributeAt(interpreter, item, *given[0]) : item;
    if (term.text())
      fail("strings cannot be summed");
    total = arithmetic(Op::Add, total, term, interpreter);
  }
  return total;
}

constexpr FilterEntry filters[] = {
    {"length", lengthFilter},
    {"count", lengthFilter},
    {"first", endFilter<true>},
    {"last", endFilter<false>},
    {"list", listFilter},
    {"reverse", reverseFilter},
    {"items", itemsFilter},
    {"join", joinFilter},
    {"map", mapFilter},
    {"select", selectFilter<true, false>},
    {"reject", selectFilter<false, false>},
    {"selectattr", selectFilter<true, true>},
    {"rejectattr", selectFilter<false, true>},
    {"sort", sortFilter},
    {"dictsort", dictSortFilter},
    {"unique", uniqueFilter},
    {"min", extremeFilter<-1>},
    {"max", extremeFilter<1>},
    {"sum", sumFilter},
};

} // namespace

std::span<const FilterEntry> sequenceFilters() { return filters; }

} // namespace kernelforge::chat
