// Renders templates for the comparison with jinja2.
//
//   template-probe CASES.jsonl > RESULTS.jsonl
//
// Each line of CASES is {"template": text, "context": {...}, "now": seconds (optional)}; each gives
// {"text": ...} or {"error": ...}.

#include "kernelforge/llm/template/Template.h"
#include "kernelforge/support/Json.h"

#include <fmt/format.h>
#include <fstream>
#include <iostream>

namespace kernelforge {
namespace {

using chat::Value;

/// Keys in the order in which they stand, which is that of Python's dicts.
using OrderedJson = nlohmann::ordered_json;

Value toValue(const OrderedJson &json) {
  constexpr size_t maxDepth = 100;
  if (json.is_boolean())
    return Value(json.get<bool>());
  if (json.is_number_integer())
    return Value(json.get<int64_t>());
  if (json.is_number())
    return Value(json.get<double>());
  if (json.is_string())
    return Value(chat::Text(json.get<std::string>(), true));
  if (json.is_array()) {
    std::vector<Value> items;
    for (const OrderedJson &item : json)
      items.push_back(toValue(item));
    return Value::list(std::move(items), maxDepth);
  }
  if (json.is_object()) {
    std::vector<std::pair<Value, Value>> entries;
    for (const auto &[key, value] : json.items())
      entries.emplace_back(Value(chat::Text(key, true)), toValue(value));
    return Value::mapping(std::move(entries), maxDepth);
  }
  return {};
}

Expected<std::string> renderCase(const OrderedJson &test) {
  KF_TRY(auto parsed, chat::parseTemplate(test.at("template").get<std::string>(), ""));
  std::vector<std::pair<std::string, Value>> variables;
  for (const auto &[name, value] : test.at("context").items())
    variables.emplace_back(name, toValue(value));
  std::optional<std::tm> now;
  if (test.contains("now")) {
    auto seconds = test["now"].get<std::time_t>();
    now.emplace();
    gmtime_r(&seconds, &*now);
  }
  KF_TRY(chat::Text text, chat::renderTemplate(*parsed, std::move(variables), "", now));
  return text.bytes;
}

} // namespace
} // namespace kernelforge

int main(int argc, char **argv) {
  using namespace kernelforge;
  std::ifstream in(argc == 2 ? argv[1] : "");
  if (!in) {
    fmt::print(stderr, "usage: template-probe CASES.jsonl\n");
    return 2;
  }
  for (std::string line; std::getline(in, line);) {
    const auto test = OrderedJson::parse(line, nullptr, /*allow_exceptions=*/false);
    if (test.is_discarded()) {
      fmt::print(stderr, "template-probe: error: a case is no JSON: {}\n", line);
      return 2;
    }
    auto text = renderCase(test);
    Json result = text ? Json{{"text", *text}} : Json{{"error", text.error().line()}};
    std::cout << result.dump() << "\n";
  }
  return 0;
}
