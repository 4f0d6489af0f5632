#include "kernelforge/support/Json.h"

#include "kernelforge/support/MappedFile.h"

#include <cmath>
#include <fmt/format.h>
#include <limits>

namespace kernelforge {

namespace {

/// Builds a Json value from the parser's events and stops at the first breach of a limit. The
/// library's own builder keeps the last of two equal keys and has no limits.
class LimitedBuilder : public nlohmann::json_sax<Json> {
public:
  LimitedBuilder(Json &root, const JsonLimits &limits) : root(root), limits(limits) {}

  std::string why; ///< empty: no error so far

  bool null() override { return add(nullptr); }
  bool boolean(bool v) override { return add(v); }
  bool number_integer(number_integer_t v) override { return add(v); }
  bool number_unsigned(number_unsigned_t v) override { return add(v); }
  bool number_float(number_float_t v, const string_t &text) override {
    if (!std::isfinite(v))
      return refuse(fmt::format("the number {} is not finite", shorten(text)));
    return add(v);
  }
  bool string(string_t &v) override { return add(std::move(v)); }
  bool binary(binary_t &) override { return refuse("binary values are no JSON"); }

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t &name) override {
    if (++keys > limits.maxKeys)
      return refuse(fmt::format("there are more than {} keys", limits.maxKeys));
    auto [place, isNew] = stack.back()->get_ref<Json::object_t &>().emplace(name, nullptr);
    if (!isNew)
      return refuse(fmt::format("the key \"{}\" is there twice", shorten(name)));
    slot = &place->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string &,
                   const nlohmann::detail::exception &error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while parsing
    // value - invalid literal; last read: '...'": the middle says it; the tail quotes raw bytes.
    std::string_view text = error.what();
    for (std::string_view skipped : {"] ", "column ", ": syntax error "})
      if (auto at = text.find(skipped); at != text.npos)
        text.remove_prefix(at + skipped.size());
    text = text.substr(0, text.find("; last read"));
    why = fmt::format("it is not valid JSON at byte {}: {}", position, shorten(text, 200));
    return false;
  }

private:
  static std::string shorten(std::string_view text, size_t most = 80) {
    return text.size() <= most ? std::string(text) : std::string(text.substr(0, most)) + "...";
  }

  bool refuse(std::string reason) {
    why = std::move(reason);
    return false;
  }

  /// Puts a value where the text is: under the last key, at an array's end, or at the root.
  Json *place(Json value) {
    if (++values > limits.maxValues) {
      refuse(fmt::format("there are more than {} values", limits.maxValues));
      return nullptr;
    }
    if (stack.empty()) {
      root = std::move(value);
      return &root;
    }
    if (stack.back()->is_array()) {
      auto &array = stack.back()->get_ref<Json::array_t &>();
      array.push_back(std::move(value));
      return &array.back();
    }
    *slot = std::move(value);
    return slot;
  }

  bool add(Json value) { return place(std::move(value)) != nullptr; }

  bool open(Json container) {
    if (stack.size() >= limits.maxDepth)
      return refuse(fmt::format("it is nested deeper than {} levels", limits.maxDepth));
    Json *placed = place(std::move(container));
    if (placed)
      stack.push_back(placed); // stays valid: its parent does not grow before it is closed
    return placed != nullptr;
  }
  bool close() {
    stack.pop_back();
    return true;
  }

  Json &root;
  const JsonLimits &limits;
  std::vector<Json *> stack;
  Json *slot = nullptr;
  uint64_t keys = 0, values = 0;
};

std::string join(const std::string &path, std::string_view field) {
  return path.empty() ? std::string(field) : fmt::format("{}.{}", path, field);
}

std::string_view kindName(const Json &value) {
  switch (value.type()) {
  case Json::value_t::null:
    return "null";
  case Json::value_t::object:
    return "an object";
  case Json::value_t::array:
    return "an array";
  case Json::value_t::string:
    return "a string";
  case Json::value_t::boolean:
    return "a boolean";
  default:
    return "a number";
  }
}

/// The value as the user wrote it if that is short, its kind if not.
std::string show(const Json &value) {
  if (value.is_number() || value.is_boolean() || value.is_null())
    return value.dump();
  if (value.is_string() && value.get_ref<const std::string &>().size() <= 60)
    return fmt::format("\"{}\"", value.get_ref<const std::string &>());
  return std::string(kindName(value));
}

} // namespace

Expected<JsonDocument> parseJson(std::string_view text, std::string_view what,
                                 std::string_view where, const JsonLimits &limits) {
  if (text.size() > limits.maxBytes)
    return unusable(std::string(what), std::string(where),
                    fmt::format("the JSON text has {} bytes, at most {} are read", text.size(),
                                limits.maxBytes));
  JsonDocument document;
  document.purpose = what;
  document.origin = where;
  LimitedBuilder builder(document.json, limits);
  try {
    if (Json::sax_parse(text.begin(), text.end(), &builder))
      return document;
  } catch (const std::exception &error) { // out of memory; the parser reports by value
    return failed(std::string(what), std::string(where), error.what());
  }
  return unusable(std::string(what), std::string(where), std::move(builder.why));
}

Expected<JsonDocument> readJsonFile(const std::string &path, std::string_view what,
                                    const JsonLimits &limits) {
  KF_TRY(std::string text, readFile(path, what, limits.maxBytes));
  return parseJson(text, what, path, limits);
}

Expected<JsonDocument> readJsonText(const std::string &path, std::string_view what,
                                    const JsonLimits &limits) {
  KF_TRY(std::string text, readText(path, what, limits.maxBytes));
  return parseJson(text, what, path == "-" ? "standard input" : path, limits);
}

Json errorJson(const Error &error) {
  // A device that is lost is a failure part-way to whoever asked for a result.
  const ErrorKind kind = error.kind == ErrorKind::Lost ? ErrorKind::Failed : error.kind;
  return {{"code", static_cast<int>(kind)},
          {"what", error.what},
          {"where", error.where},
          {"why", error.why},
          {"hint", error.hint}};
}

JsonView JsonDocument::root() const { return JsonView(*this, json, ""); }

tl::unexpected<Error> JsonView::error(std::string why, std::string hint) const {
  std::string where = document->origin;
  if (!fieldPath.empty())
    where += fmt::format(", field {}", fieldPath);
  return unusable(document->purpose, std::move(where), std::move(why), std::move(hint));
}

bool JsonView::has(std::string_view field) const {
  if (!json->is_object())
    return false;
  auto found = json->find(field);
  return found != json->end() && !found->is_null();
}

Expected<JsonView> JsonView::at(std::string_view field) const {
  if (!json->is_object())
    return error(fmt::format("is {}, must be an object", kindName(*json)));
  auto found = json->find(field);
  JsonView view(*document, found == json->end() ? *json : *found, join(fieldPath, field));
  if (found == json->end())
    return view.error("is missing");
  if (found->is_null())
    return view.error("is null, a value is needed");
  return view;
}

Expected<JsonView> JsonView::atKind(std::string_view field, Json::value_t kind) const {
  KF_TRY(JsonView view, at(field));
  if (view.json->type() != kind)
    return view.error(fmt::format("is {}, must be {}", show(*view.json), kindName(Json(kind))));
  return view;
}

Expected<JsonView> JsonView::object(std::string_view field) const {
  return atKind(field, Json::value_t::object);
}

Expected<std::vector<JsonView>> JsonView::array(std::string_view field, uint64_t maxLength) const {
  KF_TRY(JsonView view, at(field));
  return view.elements(maxLength);
}

Expected<std::string> JsonView::string(std::string_view field, uint64_t maxBytes) const {
  KF_TRY(JsonView view, at(field));
  return view.asString(maxBytes);
}

Expected<int64_t> JsonView::integer(std::string_view field, int64_t low, int64_t high) const {
  KF_TRY(JsonView view, at(field));
  return view.asInteger(low, high);
}

Expected<double> JsonView::number(std::string_view field, double low, double high) const {
  KF_TRY(JsonView view, at(field));
  return view.asNumber(low, high);
}

Expected<bool> JsonView::boolean(std::string_view field) const {
  KF_TRY(JsonView view, at(field));
  return view.asBoolean();
}

Expected<int64_t> JsonView::integerOr(std::string_view field, int64_t low, int64_t high,
                                      int64_t fallback) const {
  return has(field) ? integer(field, low, high) : fallback;
}

Expected<double> JsonView::numberOr(std::string_view field, double low, double high,
                                    double fallback) const {
  return has(field) ? number(field, low, high) : fallback;
}

Expected<bool> JsonView::booleanOr(std::string_view field, bool fallback) const {
  return has(field) ? boolean(field) : fallback;
}

Expected<std::string> JsonView::stringOr(std::string_view field, uint64_t maxBytes,
                                         std::string fallback) const {
  return has(field) ? string(field, maxBytes) : std::move(fallback);
}

Expected<std::vector<JsonView>> JsonView::elements(uint64_t maxLength) const {
  if (!json->is_array())
    return error(fmt::format("is {}, must be an array", show(*json)));
  if (json->size() > maxLength)
    return error(fmt::format("has {} elements, at most {} are allowed", json->size(), maxLength));
  std::vector<JsonView> views;
  views.reserve(json->size());
  for (const Json &element : *json)
    views.push_back(JsonView(*document, element, fmt::format("{}[{}]", fieldPath, views.size())));
  return views;
}

Expected<std::vector<std::pair<std::string, JsonView>>> JsonView::members() const {
  if (!json->is_object())
    return error(fmt::format("is {}, must be an object", show(*json)));
  std::vector<std::pair<std::string, JsonView>> views;
  views.reserve(json->size());
  for (const auto &[name, element] : json->get_ref<const Json::object_t &>())
    views.emplace_back(name, JsonView(*document, element, join(fieldPath, name)));
  return views;
}

Expected<std::string> JsonView::asString(uint64_t maxBytes) const {
  if (!json->is_string())
    return error(fmt::format("is {}, must be a string", show(*json)));
  const std::string &text = json->get_ref<const std::string &>();
  if (text.size() > maxBytes)
    return error(fmt::format("has {} bytes, at most {} are allowed", text.size(), maxBytes));
  return text;
}

Expected<int64_t> JsonView::asInteger(int64_t low, int64_t high) const {
  const bool whole = json->is_number_integer();
  // An unsigned value over INT64_MAX does not fit what is returned, whatever the limit.
  const bool fits = whole && !(json->is_number_unsigned() &&
                               json->get<uint64_t>() >
                                   static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
  const int64_t value = fits ? json->get<int64_t>() : 0;
  if (!fits || value < low || value > high)
    return error(fmt::format("is {}, must be an integer from {} to {}", show(*json), low, high));
  return value;
}

Expected<double> JsonView::asNumber(double low, double high) const {
  if (!json->is_number())
    return error(fmt::format("is {}, must be a number from {} to {}", show(*json), low, high));
  const double value = json->get<double>();
  if (!(value >= low && value <= high))
    return error(fmt::format("is {}, must be from {} to {}", show(*json), low, high));
  return value;
}

Expected<bool> JsonView::asBoolean() const {
  if (!json->is_boolean())
    return error(fmt::format("is {}, must be true or false", show(*json)));
  return json->get<bool>();
}

} // namespace kernelforge
