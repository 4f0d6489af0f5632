// The filter tojson: Python's json.dumps.

#include "kernelforge/llm/template/Value.h"
#include "kernelforge/support/Utf8.h"

#include <cmath>
#include <fmt/format.h>

namespace kernelforge::chat {

namespace {

class Writer {
public:
  Writer(const JsonStyle &style, Budget &budget) : style(style), budget(budget) {}
  Text out;

  void write(const Value &value, size_t level) {
    budget.step();
    if (auto *text = value.text())
      put(derived(inQuotes(text->bytes), *text));
    else if (auto *list = value.sequence())
      writeItems("[", "]", list->items.size(), level,
                 [&](size_t i) { write(list->items[i], level + 1); });
    else if (auto *map = value.mapping())
      writeMapping(*map, level);
    else
      put(scalar(value));
  }

private:
  void put(std::string_view text) { put(Text(std::string(text))); }
  void put(const Text &text) {
    budget.make(text.size());
    out.append(text);
  }

  std::string scalar(const Value &value) {
    if (value.isNone())
      return "null";
    if (auto *v = value.get<bool>())
      return *v ? "true" : "false";
    if (auto *v = value.get<int64_t>())
      return std::to_string(*v);
    if (auto *v = value.get<double>())
      return std::isnan(*v)   ? "NaN"
             : std::isinf(*v) ? (*v < 0 ? "-Infinity" : "Infinity")
                              : floatText(*v);
    fail(fmt::format("a value of type {} cannot be written as JSON", value.typeName()));
  }

  void newline(size_t level) {
    if (!style.indent)
      return;
    put("\n");
    for (size_t i = 0; i < level; ++i)
      put(*style.indent);
  }

  template <typename Item>
  void writeItems(std::string_view open, std::string_view close, size_t count, size_t level,
                  Item item) {
    put(open);
    for (size_t i = 0; i < count; ++i) {
      put(i ? style.itemSeparator : "");
      newline(level + 1);
      item(i);
    }
    if (count)
      newline(level);
    put(close);
  }

  void writeMapping(const Mapping &map, size_t level) {
    std::vector<size_t> order;
    if (style.sortKeys)
      order = stableOrder(map.entries.size(), [&](size_t a, size_t b) {
        return compare(map.entries[a].first, map.entries[b].first, budget) == -1;
      });
    writeItems("{", "}", map.entries.size(), level, [&](size_t i) {
      const auto &[key, value] = map.entries[style.sortKeys ? order[i] : i];
      if (auto *text = key.text())
        put(derived(inQuotes(text->bytes), *text));
      else
        put("\"" + scalar(key) + "\"");
      put(style.keySeparator);
      write(value, level + 1);
    });
  }

  std::string inQuotes(std::string_view text) const {
    std::string out = "\"";
    for (size_t i = 0; i < text.size();) {
      Utf8Step step = decodeUtf8(text.substr(i));
      uint32_t c = step.codePoint;
      static constexpr std::string_view special = "\"\\\n\r\t\f\b", letter = "\"\\nrtfb";
      if (c < 0x80 && special.find(static_cast<char>(c)) != special.npos)
        (out += '\\') += letter[special.find(static_cast<char>(c))];
      else if (c < 0x20 || (style.ensureAscii && c > 0x7F && c < 0x10000))
        out += fmt::format("\\u{:04x}", c);
      else if (style.ensureAscii && c >= 0x10000)
        out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((c - 0x10000) >> 10),
                           0xDC00 + ((c - 0x10000) & 0x3FF));
      else
        out += text.substr(i, step.length);
      i += step.length;
    }
    return out + "\"";
  }

  const JsonStyle &style;
  Budget &budget;
};

} // namespace

Text toJson(const Value &value, const JsonStyle &style, Budget &budget) {
  Writer writer(style, budget);
  writer.write(value, 0);
  return std::move(writer.out);
}

} // namespace kernelforge::chat
