// Filters: what may stand after `|`. Those over sequences are in SequenceFilters.cpp.

#include "kernelforge/llm/template/FilterTables.h"

#include <charconv>
#include <cmath>
#include <fmt/format.h>

namespace kernelforge::chat {

namespace {

template <Text (*Map)(const Text &)>
Value mapFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  bindArguments("this filter", arguments, {});
  Text text = interpreter.toText(value);
  interpreter.budget.make(4 * text.size()); // conversions make copies on the way
  return interpreter.text(Map(text));
}

Value trimFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"chars"};
  auto given = bindArguments("trim", arguments, names);
  Text text = interpreter.toText(value);
  if (!given[0] || given[0]->isNone())
    return interpreter.text(strip(text, Side::Both));
  if (!given[0]->text())
    fail("trim takes a string");
  interpreter.budget.step(given[0]->text()->size() / 16 * (1 + text.size() / 64));
  return interpreter.text(strip(text, Side::Both, given[0]->text()->bytes));
}

Value stringFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  bindArguments("string", arguments, {});
  return Value(interpreter.toText(value));
}

Value safeFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  return stringFilter(interpreter, value, arguments);
}

Value escapeFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  bindArguments("escape", arguments, {});
  return Value(escapeHtml(interpreter.toText(value), interpreter.budget));
}

Value defaultFilter(Interpreter &, const Value &value, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"default_value", "boolean"};
  auto given = bindArguments("default", arguments, names);
  bool absent = value.isUndefined() || (given[1] && given[1]->truthy() && !value.truthy());
  if (!absent)
    return value;
  return given[0] ? *given[0] : Value(Text());
}

Value replaceFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"old", "new", "count"};
  auto given = bindArguments("replace", arguments, names);
  if (!given[0] || !given[1])
    fail("replace takes what to replace and by what");
  int64_t count = -1;
  if (given[2] && !given[2]->isNone()) {
    if (!given[2]->integer())
      fail("replace takes an integer as count");
    count = *given[2]->integer();
  }
  return Value(replaceAll(interpreter.toText(value), interpreter.toText(*given[0]),
                          interpreter.toText(*given[1]), count, interpreter.budget));
}

Value indentFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"width", "first", "blank"};
  auto given = bindArguments("indent", arguments, names);
  Text indention("    ");
  if (given[0] && given[0]->text()) {
    indention = *given[0]->text();
  } else if (given[0]) {
    int64_t width = given[0]->integer().value_or(-1);
    if (width < 0 || width > 1000)
      fail("the width of indent is from 0 to 1000 or a string");
    indention = Text(std::string(width, ' '));
  }
  bool first = given[1] && given[1]->truthy(), blank = given[2] && given[2]->truthy();
  if (!value.text())
    fail(fmt::format("a value of type {} cannot be indented", value.typeName()));
  Text text = *value.text();
  text.append("\n"); // so that a newline at the end makes an empty line, as in Jinja
  interpreter.budget.make(text.size() * sizeof(Text));
  Text out;
  bool isFirst = true;
  for (const Text &line : splitLines(text)) {
    interpreter.budget.make(line.size() + indention.size() + 1);
    if (!isFirst)
      out.append("\n");
    if (isFirst ? first : blank || line.size() > 0)
      out.append(indention);
    out.append(line);
    isFirst = false;
  }
  return Value(std::move(out));
}

/// Python's int() or float() of a text: white space around, underscores between digits.
std::optional<std::string> numberText(const Text &text) {
  Text stripped = strip(text, Side::Both);
  std::string out;
  const std::string &bytes = stripped.bytes;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != '_') {
      out += bytes[i];
      continue;
    }
    bool between =
        i > 0 && i + 1 < bytes.size() && std::isxdigit(bytes[i - 1]) && std::isxdigit(bytes[i + 1]);
    if (!between)
      return std::nullopt;
  }
  if (out.starts_with('+') && out.size() > 1 && out[1] != '-' && out[1] != '+')
    out.erase(0, 1);
  return out;
}

std::optional<double> parseFloat(const Text &text) {
  auto digits = numberText(text);
  if (!digits || digits->empty())
    return std::nullopt;
  double value = 0;
  const char *end = digits->data() + digits->size();
  auto [at, code] = std::from_chars(digits->data(), end, value);
  if (at != end || code == std::errc::invalid_argument)
    return std::nullopt;
  if (code == std::errc::result_out_of_range) // Python gives infinity or zero
    return std::strtod(digits->c_str(), nullptr);
  return value;
}

std::optional<int64_t> parseInteger(const Text &text, int base) {
  auto digits = numberText(text);
  if (!digits)
    return std::nullopt;
  bool negative = digits->starts_with('-');
  if (negative)
    digits->erase(0, 1);
  if (digits->size() > 1 && (*digits)[0] == '0') {
    char prefix = static_cast<char>((*digits)[1] | 0x20);
    if ((base == 16 && prefix == 'x') || (base == 8 && prefix == 'o') ||
        (base == 2 && prefix == 'b'))
      digits->erase(0, 2);
  }
  if (digits->empty() || !std::isalnum(static_cast<unsigned char>((*digits)[0])))
    return std::nullopt; // a second sign
  if (negative)
    digits->insert(0, "-");
  int64_t value = 0;
  const char *end = digits->data() + digits->size();
  auto [at, code] = std::from_chars(digits->data(), end, value, base);
  if (code == std::errc::result_out_of_range)
    fail("an integer is out of range");
  return code == std::errc() && at == end ? std::optional(value) : std::nullopt;
}

std::optional<int64_t> truncate(double value) {
  if (!std::isfinite(value))
    return std::nullopt;
  if (std::fabs(value) >= 0x1p63)
    fail("an integer is out of range");
  return static_cast<int64_t>(value);
}

Value intFilter(Interpreter &, const Value &value, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"default", "base"};
  auto given = bindArguments("int", arguments, names);
  requireDefined(value);
  int64_t base = given[1] ? given[1]->integer().value_or(0) : 10;
  if (base < 2 || base > 36)
    fail("the base of int is from 2 to 36");
  std::optional<int64_t> out = value.integer();
  if (auto *number = value.get<double>())
    out = truncate(*number);
  if (auto *text = value.text()) {
    out = parseInteger(*text, static_cast<int>(base));
    if (!out)
      if (auto number = parseFloat(*text))
        out = truncate(*number);
  }
  if (out)
    return Value(*out);
  return given[0] ? *given[0] : Value(int64_t(0));
}

Value floatFilter(Interpreter &, const Value &value, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"default"};
  auto given = bindArguments("float", arguments, names);
  requireDefined(value);
  std::optional<double> out = value.number();
  if (auto *text = value.text())
    out = parseFloat(*text);
  if (out)
    return Value(*out);
  return given[0] ? *given[0] : Value(0.0);
}

Value absFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  bindArguments("abs", arguments, {});
  requireDefined(value);
  if (auto *number = value.get<double>())
    return Value(std::fabs(*number));
  auto number = value.integer();
  if (!number)
    fail(fmt::format("a value of type {} has no absolute value", value.typeName()));
  return *number < 0 ? arithmetic(Op::Sub, Value(int64_t(0)), value, interpreter) : Value(*number);
}

Value roundFilter(Interpreter &, const Value &value, const Arguments &arguments) {
  static constexpr std::string_view names[] = {"precision", "method"};
  auto given = bindArguments("round", arguments, names);
  requireDefined(value);
  if (!value.number())
    fail(fmt::format("a value of type {} cannot be rounded", value.typeName()));
  auto precision = given[0] ? given[0]->integer().value_or(-1) : 0;
  if (precision < 0 || precision > 300)
    fail("the precision of round is from 0 to 300");
  std::string method = given[1] && given[1]->text() ? given[1]->text()->bytes : "common";
  double number = *value.number();
  if (method == "common") {
    if (value.integer())
      return Value(*value.integer());
    if (!std::isfinite(number))
      return value;
    // Printing rounds the exact value, halves to even, as Python's round does.
    std::string digits = fmt::format("{:.{}f}", number, precision);
    double rounded = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), rounded); // in no locale
    return Value(rounded);
  }
  if (method != "ceil" && method != "floor")
    fail("the method of round is common, ceil or floor");
  double scale = std::pow(10.0, static_cast<double>(precision));
  double scaled = number * scale;
  if (!std::isfinite(scaled))
    fail("a number is out of range");
  return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value tojsonFilter(Interpreter &interpreter, const Value &value, const Arguments &arguments) {
  // The signature that transformers gives this filter, not Jinja's own.
  static constexpr std::string_view names[] = {"ensure_ascii", "indent", "separators", "sort_keys"};
  auto given = bindArguments("tojson", arguments, names);
  JsonStyle style;
  style.ensureAscii = given[0] && given[0]->truthy();
  style.sortKeys = given[3] && given[3]->truthy();
  if (given[1] && !given[1]->isNone()) {
    if (auto *text = given[1]->text()) {
      style.indent = text->bytes;
    } else {
      int64_t width = given[1]->integer().value_or(-1);
      if (width < 0 || width > 100)
        fail("the indent of tojson is from 0 to 100 or a string");
      style.indent = std::string(width, ' ');
    }
  }
  style.itemSeparator = style.indent ? "," : ", ";
  style.keySeparator = ": ";
  if (given[2] && !given[2]->isNone()) {
    std::vector<Value> parts = interpreter.items(*given[2]);
    if (parts.size() != 2 || !parts[0].text() || !parts[1].text())
      fail("the separators of tojson are two strings");
    style.itemSeparator = parts[0].text()->bytes;
    style.keySeparator = parts[1].text()->bytes;
  }
  return Value(toJson(value, style, interpreter.budget));
}

constexpr FilterEntry filters[] = {
    {"trim", trimFilter},
    {"upper", mapFilter<upper>},
    {"lower", mapFilter<lower>},
    {"capitalize", mapFilter<capitalize>},
    {"title", mapFilter<titleWords>},
    {"string", stringFilter},
    {"safe", safeFilter},
    {"escape", escapeFilter},
    {"e", escapeFilter},
    {"default", defaultFilter},
    {"d", defaultFilter},
    {"replace", replaceFilter},
    {"indent", indentFilter},
    {"int", intFilter},
    {"float", floatFilter},
    {"abs", absFilter},
    {"round", roundFilter},
    {"tojson", tojsonFilter},
};

} // namespace

Callable::Function findFilter(std::string_view name) {
  for (const auto &[known, filter] : filters)
    if (known == name)
      return filter;
  for (const auto &[known, filter] : sequenceFilters())
    if (known == name)
      return filter;
  return nullptr;
}

} // namespace kernelforge::chat
