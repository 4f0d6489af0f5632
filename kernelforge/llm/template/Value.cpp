#include "kernelforge/llm/template/Value.h"

#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <list>

namespace kernelforge::chat {

void fail(std::string message) { throw TemplateError{std::move(message), {}}; }

void requireDefined(const Value &value) {
  if (auto *undefined = value.get<Undefined>())
    fail(*undefined->message);
}

Value Value::undefined(std::string message) {
  return Value(Storage(Undefined{std::make_shared<const std::string>(std::move(message))}));
}

Value Value::list(std::vector<Value> items, size_t maxDepth, bool isTuple) {
  Sequence sequence;
  sequence.isTuple = isTuple;
  for (const Value &item : items) {
    sequence.depth = std::max(sequence.depth, item.depth() + 1);
    sequence.holdsNamespace |= item.holdsNamespace();
  }
  if (sequence.depth > maxDepth)
    fail(fmt::format("a list is nested more than {} deep", maxDepth));
  sequence.items = std::move(items);
  return Value(Storage(std::make_shared<const Sequence>(std::move(sequence))));
}

Value Value::mapping(std::vector<std::pair<Value, Value>> entries, size_t maxDepth) {
  Mapping mapping;
  for (const auto &[key, value] : entries) {
    mapping.depth = std::max({mapping.depth, key.depth() + 1, value.depth() + 1});
    mapping.holdsNamespace |= value.holdsNamespace();
  }
  if (mapping.depth > maxDepth)
    fail(fmt::format("a dict is nested more than {} deep", maxDepth));
  mapping.entries = std::move(entries);
  return Value(Storage(std::make_shared<const Mapping>(std::move(mapping))));
}

std::optional<int64_t> Value::integer() const {
  if (auto *v = get<int64_t>())
    return *v;
  if (auto *v = get<bool>())
    return *v ? 1 : 0;
  return std::nullopt;
}

std::optional<double> Value::number() const {
  if (auto *v = get<double>())
    return *v;
  if (auto v = integer())
    return static_cast<double>(*v);
  return std::nullopt;
}

bool Value::truthy() const {
  if (isUndefined() || isNone())
    return false;
  if (auto v = number())
    return *v != 0;
  if (auto *v = text())
    return v->size() > 0;
  if (auto *v = sequence())
    return !v->items.empty();
  if (auto *v = mapping())
    return !v->entries.empty();
  return true;
}

size_t Value::depth() const {
  if (auto *v = sequence())
    return v->depth;
  if (auto *v = mapping())
    return v->depth;
  if (auto *v = loop())
    return v->items->depth + 1;
  if (auto *v = callable())
    return v->self ? v->self->depth() + 1 : 1;
  return 0;
}

bool Value::holdsNamespace() const {
  if (auto *v = sequence())
    return v->holdsNamespace;
  if (auto *v = mapping())
    return v->holdsNamespace;
  if (auto *v = loop())
    return v->items->holdsNamespace;
  if (auto *v = callable())
    return v->self && v->self->holdsNamespace();
  return space() != nullptr;
}

std::string Value::typeName() const {
  static constexpr const char *names[] = {"Undefined", "NoneType", "bool",    "int",
                                          "float",     "str",      "list",    "dict",
                                          "Namespace", "loop",     "function"};
  return sequence() && sequence()->isTuple ? "tuple" : names[storage.index()];
}

std::string floatText(double value) {
  if (std::isnan(value))
    return "nan";
  if (std::isinf(value))
    return value < 0 ? "-inf" : "inf";
  if (value == 0)
    return std::signbit(value) ? "-0.0" : "0.0";
  // The shortest digits that read back as the value; Python writes an exponent below 1e-4 and from
  // 1e16 on.
  char buffer[64];
  double magnitude = std::fabs(value);
  bool exponent = magnitude < 1e-4 || magnitude >= 1e16;
  auto format = exponent ? std::chars_format::scientific : std::chars_format::fixed;
  auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, format).ptr;
  std::string text(buffer, end);
  if (!exponent && text.find('.') == text.npos)
    text += ".0";
  return text;
}

namespace {

/// Python's repr() of a string, without the marks.
std::string inQuotes(std::string_view text) {
  bool single = text.find('\'') != text.npos && text.find('"') == text.npos;
  char quote = single ? '"' : '\'';
  std::string out(1, quote);
  for (size_t i = 0; i < text.size();) {
    Utf8Step step = decodeUtf8(text.substr(i));
    char32_t c = step.codePoint;
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c < 0x20 || (c >= 0x7F && c <= 0xA0) || c == 0xAD) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    } else {
      out += text.substr(i, step.length);
    }
    i += step.length;
  }
  return out + quote;
}

/// Writes values as Python prints them inside lists.
class Printer {
public:
  Printer(Budget &budget) : budget(budget) {}
  Text out;

  void print(const Value &value) {
    budget.step();
    if (auto *text = value.text())
      return put(derived(inQuotes(text->bytes), *text));
    if (auto *list = value.sequence()) {
      put(list->isTuple ? "(" : "[");
      for (size_t i = 0; i < list->items.size(); ++i) {
        put(i ? ", " : "");
        print(list->items[i]);
      }
      if (list->isTuple && list->items.size() == 1)
        put(",");
      return put(list->isTuple ? ")" : "]");
    }
    if (auto *map = value.mapping()) {
      put("{");
      for (size_t i = 0; i < map->entries.size(); ++i) {
        put(i ? ", " : "");
        print(map->entries[i].first);
        put(": ");
        print(map->entries[i].second);
      }
      return put("}");
    }
    if (value.isUndefined())
      return put("Undefined");
    put(toText(value, budget));
  }

private:
  void put(std::string_view text) { put(Text(std::string(text))); }
  void put(const Text &text) {
    budget.make(text.size());
    out.append(text);
  }
  Budget &budget;
};

} // namespace

Text toText(const Value &value, Budget &budget) {
  if (auto *text = value.text())
    return *text;
  if (value.isUndefined())
    return {};
  if (value.isNone())
    return Text("None");
  if (auto *v = value.get<bool>())
    return Text(*v ? "True" : "False");
  if (auto *v = value.get<int64_t>())
    return Text(std::to_string(*v));
  if (auto *v = value.get<double>())
    return Text(floatText(*v));
  if (value.sequence() || value.mapping()) {
    Printer printer(budget);
    printer.print(value);
    return std::move(printer.out);
  }
  return Text("<" + value.typeName() + ">");
}

bool equals(const Value &a, const Value &b, Budget &budget) {
  budget.step();
  if (auto x = a.integer(), y = b.integer(); x && y)
    return *x == *y;
  if (auto x = a.number(), y = b.number(); x && y)
    return *x == *y;
  if (auto *x = a.text(), *y = b.text(); x && y) {
    budget.step(x->size() / 64);
    return x->bytes == y->bytes;
  }
  if (auto *x = a.sequence(), *y = b.sequence(); x && y) {
    if (x->isTuple != y->isTuple || x->items.size() != y->items.size())
      return false;
    for (size_t i = 0; i < x->items.size(); ++i)
      if (!equals(x->items[i], y->items[i], budget))
        return false;
    return true;
  }
  if (auto *x = a.mapping(), *y = b.mapping(); x && y) {
    if (x->entries.size() != y->entries.size())
      return false;
    for (const auto &[key, value] : x->entries) {
      const Value *other = findKey(*y, key, budget);
      if (!other || !equals(value, *other, budget))
        return false;
    }
    return true;
  }
  if (a.space() || b.space())
    return a.space() == b.space();
  if (a.callable() || b.callable())
    return a.callable() == b.callable();
  if (a.loop() || b.loop())
    return a.loop() == b.loop();
  return (a.isNone() && b.isNone()) || (a.isUndefined() && b.isUndefined());
}

int compare(const Value &a, const Value &b, Budget &budget) {
  budget.step();
  requireDefined(a);
  requireDefined(b);
  if (auto x = a.integer(), y = b.integer(); x && y)
    return *x < *y ? -1 : *x > *y;
  if (auto x = a.number(), y = b.number(); x && y)
    return *x < *y ? -1 : *x > *y ? 1 : *x == *y ? 0 : unordered;
  if (auto *x = a.text(), *y = b.text(); x && y) {
    budget.step(std::min(x->size(), y->size()) / 64);
    int order = x->bytes.compare(y->bytes); // of UTF-8: the order of code points
    return order < 0 ? -1 : order > 0;
  }
  auto *x = a.sequence(), *y = b.sequence();
  if (x && y && x->isTuple == y->isTuple) {
    for (size_t i = 0; i < std::min(x->items.size(), y->items.size()); ++i)
      if (!equals(x->items[i], y->items[i], budget))
        return compare(x->items[i], y->items[i], budget);
    return x->items.size() < y->items.size() ? -1 : x->items.size() > y->items.size();
  }
  fail(fmt::format("{} and {} have no order", a.typeName(), b.typeName()));
}

std::vector<size_t> stableOrder(size_t count, const std::function<bool(size_t, size_t)> &less) {
  std::list<size_t> order; // its sort only merges; std::sort may leave its range without an order
  for (size_t i = 0; i < count; ++i)
    order.push_back(i);
  order.sort(less);
  return {order.begin(), order.end()};
}

bool isKey(const Value &value) {
  if (auto *list = value.sequence())
    return list->isTuple && std::all_of(list->items.begin(), list->items.end(), isKey);
  return !value.mapping();
}

void requireKey(const Value &key) {
  if (!isKey(key))
    fail(fmt::format("a {} cannot be a key", key.typeName()));
}

const Value *findKey(const Mapping &mapping, const Value &key, Budget &budget) {
  for (const auto &[name, value] : mapping.entries)
    if (equals(name, key, budget))
      return &value;
  return nullptr;
}

} // namespace kernelforge::chat
