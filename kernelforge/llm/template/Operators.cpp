// Operators over values: arithmetic, subscripts, slices, membership, and how arguments are matched.

#include "kernelforge/llm/template/Interpreter.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace kernelforge::chat {

namespace {

[[noreturn]] void noOperation(std::string_view op, const Value &a, const Value &b) {
  fail(fmt::format("{} is not defined between {} and {}", op, a.typeName(), b.typeName()));
}

constexpr std::string_view opNames[] = {"+", "-", "*", "/", "//", "%", "**"};

int64_t floorDivide(int64_t a, int64_t b) {
  int64_t q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

int64_t power(int64_t base, int64_t exponent) {
  int64_t out = 1;
  while (exponent > 0) {
    bool over = (exponent & 1) && __builtin_mul_overflow(out, base, &out);
    exponent >>= 1;
    over |= exponent > 0 && __builtin_mul_overflow(base, base, &base);
    if (over)
      fail("an integer is out of range");
  }
  return out;
}

Value integerArithmetic(Op op, int64_t a, int64_t b) {
  int64_t out = 0;
  bool over = false;
  switch (op) {
  case Op::Add:
    over = __builtin_add_overflow(a, b, &out);
    break;
  case Op::Sub:
    over = __builtin_sub_overflow(a, b, &out);
    break;
  case Op::Mul:
    over = __builtin_mul_overflow(a, b, &out);
    break;
  case Op::Pow:
    if (b < 0) {
      if (a == 0)
        fail("division by zero");
      return Value(std::pow(static_cast<double>(a), static_cast<double>(b)));
    }
    return Value(power(a, b));
  default:
    if (b == 0)
      fail("division by zero");
    if (op == Op::Div)
      return Value(static_cast<double>(a) / static_cast<double>(b));
    if (b == -1) // the one divisor that overflows
      over = op == Op::FloorDiv && __builtin_sub_overflow(int64_t(0), a, &out);
    else
      out = op == Op::FloorDiv ? floorDivide(a, b) : a - floorDivide(a, b) * b;
  }
  if (over)
    fail("an integer is out of range");
  return Value(out);
}

Value floatArithmetic(Op op, double a, double b) {
  switch (op) {
  case Op::Add:
    return Value(a + b);
  case Op::Sub:
    return Value(a - b);
  case Op::Mul:
    return Value(a * b);
  case Op::Pow: {
    if (a == 0 && b < 0)
      fail("division by zero");
    double out = std::pow(a, b);
    if (std::isnan(out) && !std::isnan(a) && !std::isnan(b))
      fail("a power is no real number");
    if (std::isinf(out) && std::isfinite(a) && std::isfinite(b))
      fail("a number is out of range");
    return Value(out);
  }
  default:
    if (b == 0)
      fail("division by zero");
    if (op == Op::Div)
      return Value(a / b);
    // As Python: the remainder has the divisor's sign, and the quotient agrees with it.
    double rest = std::fmod(a, b);
    double quotient = (a - rest) / b;
    if (rest != 0 && (b < 0) != (rest < 0)) {
      rest += b;
      quotient -= 1;
    } else if (rest == 0) {
      rest = std::copysign(0.0, b);
    }
    if (op == Op::Mod)
      return Value(rest);
    double floored = quotient == 0 ? std::copysign(0.0, a / b) : std::floor(quotient);
    return Value(quotient - floored > 0.5 ? floored + 1 : floored);
  }
}

/// `value` repeated; Python takes a negative count as 0.
Value repeat(const Value &value, int64_t count, Interpreter &interpreter) {
  uint64_t times = count > 0 ? static_cast<uint64_t>(count) : 0;
  auto check = [&](size_t each) {
    if (each > 0 && times > interpreter.budget.limits.createdBytes / each)
      fail("a repetition is too long");
    interpreter.budget.make(each * times);
  };
  if (auto *text = value.text()) {
    check(text->size());
    Text out;
    if (text->size() > 0)
      for (uint64_t i = 0; i < times; ++i)
        out.append(*text);
    return Value(std::move(out));
  }
  const Sequence &list = *value.sequence();
  check(list.items.size() * sizeof(Value));
  std::vector<Value> items;
  if (!list.items.empty())
    for (uint64_t i = 0; i < times; ++i)
      items.insert(items.end(), list.items.begin(), list.items.end());
  return interpreter.list(std::move(items), list.isTuple);
}

/// A value that cannot be there, with the reason.
Value noItem(const Value &of, const std::string &key) {
  return Value::undefined(fmt::format("'{}' has no item or attribute '{}'", of.typeName(), key));
}

/// The field of `loop`; null where there is none of that name.
std::optional<Value> loopField(const Loop &loop, std::string_view name) {
  auto count = static_cast<int64_t>(loop.items->items.size());
  auto index = static_cast<int64_t>(loop.index0);
  auto neighbour = [&](int64_t at, const char *what) {
    return at >= 0 && at < count ? loop.items->items[at]
                                 : Value::undefined(fmt::format("there is no {} item", what));
  };
  if (name == "index")
    return Value(index + 1);
  if (name == "index0")
    return Value(index);
  if (name == "revindex")
    return Value(count - index);
  if (name == "revindex0")
    return Value(count - index - 1);
  if (name == "first")
    return Value(index == 0);
  if (name == "last")
    return Value(index == count - 1);
  if (name == "length")
    return Value(count);
  if (name == "previtem")
    return neighbour(index - 1, "previous");
  if (name == "nextitem")
    return neighbour(index + 1, "next");
  return std::nullopt;
}

} // namespace

Value arithmetic(Op op, const Value &a, const Value &b, Interpreter &interpreter) {
  requireDefined(a);
  requireDefined(b);
  if (auto x = a.integer(), y = b.integer(); x && y)
    return integerArithmetic(op, *x, *y);
  if (auto x = a.number(), y = b.number(); x && y)
    return floatArithmetic(op, *x, *y);
  if (op == Op::Add) {
    if (auto *x = a.text(), *y = b.text(); x && y) {
      interpreter.budget.make(x->size() + y->size());
      Text out = *x;
      out.append(*y);
      return Value(std::move(out));
    }
    auto *x = a.sequence(), *y = b.sequence();
    if (x && y && x->isTuple == y->isTuple) {
      interpreter.budget.make((x->items.size() + y->items.size()) * sizeof(Value));
      std::vector<Value> items = x->items;
      items.insert(items.end(), y->items.begin(), y->items.end());
      return interpreter.list(std::move(items), x->isTuple);
    }
  }
  if (op == Op::Mul) {
    if ((a.text() || a.sequence()) && b.integer())
      return repeat(a, *b.integer(), interpreter);
    if ((b.text() || b.sequence()) && a.integer())
      return repeat(b, *a.integer(), interpreter);
  }
  if (op == Op::Mod && a.text())
    fail("formatting by % is not supported");
  noOperation(opNames[static_cast<size_t>(op)], a, b);
}

bool contains(const Value &container, const Value &item, Budget &budget) {
  if (container.isUndefined())
    return false;
  if (auto *text = container.text()) {
    const Text *part = item.text();
    if (!part)
      fail(fmt::format("a string cannot hold a value of type {}", item.typeName()));
    budget.step(text->size() / 64);
    return text->bytes.find(part->bytes) != std::string::npos;
  }
  if (auto *list = container.sequence()) {
    for (const Value &value : list->items)
      if (equals(value, item, budget))
        return true;
    return false;
  }
  if (auto *map = container.mapping()) {
    requireKey(item);
    return findKey(*map, item, budget) != nullptr;
  }
  fail(fmt::format("a value of type {} holds nothing", container.typeName()));
}

Value Interpreter::attribute(const Value &of, const std::string &name) {
  requireDefined(of);
  if (auto *loop = of.loop())
    if (auto field = loopField(*loop, name))
      return *field;
  if (auto *space = of.space()) {
    auto found = space->fields.find(name);
    return found == space->fields.end() ? noItem(of, name) : found->second;
  }
  if (Callable::Function method = findMethod(of, name))
    return Value(Value::Storage(std::make_shared<const Callable>(
        Callable{name, method, nullptr, std::make_shared<const Value>(of)})));
  if (auto *map = of.mapping())
    if (const Value *found = findKey(*map, Value(Text(name)), budget))
      return *found;
  return noItem(of, name);
}

Value Interpreter::item(const Value &of, const Value &key) {
  requireDefined(of);
  if (auto *map = of.mapping(); map && isKey(key))
    if (const Value *found = findKey(*map, key, budget))
      return *found;
  if (auto index = key.integer(); index && (of.sequence() || of.text())) {
    if (auto *list = of.sequence()) {
      auto count = static_cast<int64_t>(list->items.size());
      int64_t at = *index < 0 ? *index + count : *index;
      return at >= 0 && at < count ? list->items[at] : noItem(of, std::to_string(*index));
    }
    const Text &text = *of.text();
    budget.make(text.size());
    std::vector<size_t> offsets = codePointOffsets(text.bytes);
    auto count = static_cast<int64_t>(offsets.size()) - 1;
    int64_t at = *index < 0 ? *index + count : *index;
    if (at < 0 || at >= count)
      return noItem(of, std::to_string(*index));
    return Value(text.substr(offsets[at], offsets[at + 1] - offsets[at]));
  }
  if (auto *name = key.text())
    return attribute(of, name->bytes);
  return noItem(of, chat::toText(key, budget).bytes);
}

Value slice(const Value &of, const Value &start, const Value &stop, const Value &step,
            Interpreter &interpreter) {
  requireDefined(of);
  auto number = [](const Value &value) -> std::optional<int64_t> {
    if (value.isNone())
      return std::nullopt;
    if (!value.integer())
      fail("the ends of a slice are integers");
    return value.integer();
  };
  auto *list = of.sequence();
  auto *text = of.text();
  if (!list && !text)
    fail(fmt::format("a value of type {} cannot be sliced", of.typeName()));
  auto by = number(step).value_or(1), first = int64_t(0), last = int64_t(0);
  if (by == 0)
    fail("the step of a slice is zero");
  std::vector<size_t> offsets;
  if (text) {
    interpreter.budget.make(text->size() * sizeof(size_t));
    offsets = codePointOffsets(text->bytes);
  }
  auto count = static_cast<int64_t>(list ? list->items.size() : offsets.size() - 1);
  // Python's rule: ends are clamped to the sequence, for a negative step to one before it.
  int64_t low = by > 0 ? 0 : -1, high = by > 0 ? count : count - 1;
  auto clamp = [&](std::optional<int64_t> end, int64_t otherwise) {
    if (!end)
      return otherwise;
    int64_t at = *end < 0 ? std::max(*end, -count - 1) + count : *end;
    return std::min(std::max(at, low), high);
  };
  first = clamp(number(start), by > 0 ? low : high);
  last = clamp(number(stop), by > 0 ? high : low);
  if (text && by == 1) {
    last = std::max(first, last);
    return interpreter.text(text->substr(offsets[first], offsets[last] - offsets[first]));
  }
  std::vector<Value> items;
  Text out;
  for (int64_t at = first; by > 0 ? at < last : at > last;) {
    interpreter.budget.step();
    if (list)
      items.push_back(list->items[at]);
    else
      out.append(text->substr(offsets[at], offsets[at + 1] - offsets[at]));
    if (__builtin_add_overflow(at, by, &at))
      break;
  }
  return list ? interpreter.list(std::move(items), list->isTuple) : interpreter.text(out);
}

std::vector<const Value *> bindArguments(const std::string &callee, const Arguments &arguments,
                                         std::span<const std::string_view> parameters) {
  std::vector<const Value *> out(parameters.size(), nullptr);
  if (arguments.positional.size() > parameters.size())
    fail(fmt::format("{} takes at most {} arguments", callee, parameters.size()));
  for (size_t i = 0; i < arguments.positional.size(); ++i)
    out[i] = &arguments.positional[i];
  for (const auto &[name, value] : arguments.named) {
    auto found = std::find(parameters.begin(), parameters.end(), name);
    if (found == parameters.end())
      fail(fmt::format("{} has no argument {}", callee, name));
    const Value *&slot = out[found - parameters.begin()];
    if (slot)
      fail(fmt::format("the argument {} of {} is given twice", name, callee));
    slot = &value;
  }
  return out;
}

} // namespace kernelforge::chat
