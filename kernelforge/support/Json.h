// JSON from outside: parsed under limits, read through typed getters. Every failure is an Error
// that names the file, the field, the value and the limit; no exception leaves this file.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

using Json = nlohmann::json;

/// What there is, or null.
template <typename T> Json orNull(const std::optional<T> &value) {
  return value ? Json(*value) : Json();
}

/// An error as answers have it: {"code", "what", "where", "why", "hint"}. The code is that of the
/// command line, where a lost device is a failure.
Json errorJson(const Error &error);

/// What a text may cost before it is refused. The defaults suit a tokenizer.json (the largest JSON
/// that a model brings); configuration files are read with tighter ones.
struct JsonLimits {
  uint64_t maxBytes = 64u << 20;
  uint64_t maxDepth = 64;         ///< nesting of objects and arrays
  uint64_t maxKeys = 2'000'000;   ///< keys of all objects together
  uint64_t maxValues = 8'000'000; ///< values of all kinds together: bounds memory
};

/// Limits for a configuration file: config.json and its like.
inline constexpr JsonLimits configJsonLimits{4u << 20, 32, 100'000, 1'000'000};

class JsonView;

/// A parsed text with what its error lines begin with and where it came from.
class JsonDocument {
public:
  /// The whole text as a value to read. The view must not outlive the document, nor its moves.
  JsonView root() const;

  const Json &value() const { return json; }
  const std::string &where() const { return origin; }

private:
  friend class JsonView;
  friend Expected<JsonDocument> parseJson(std::string_view, std::string_view, std::string_view,
                                          const JsonLimits &);
  Json json;
  std::string purpose;
  std::string origin;
};

/// Parses `text`: strict UTF-8, no comments, no NaN or infinity, no number beyond f64, no duplicate
/// keys, nothing after the value, within `limits`. `what` begins the error line ("model
/// configuration is not usable"), `where` is the file. Errors are Unusable.
Expected<JsonDocument> parseJson(std::string_view text, std::string_view what,
                                 std::string_view where, const JsonLimits &limits = {});

/// Reads and parses a file; errors as for readFile and parseJson.
Expected<JsonDocument> readJsonFile(const std::string &path, std::string_view what,
                                    const JsonLimits &limits = {});

/// The same for a text that the user names; errors as for readText and parseJson.
Expected<JsonDocument> readJsonText(const std::string &path, std::string_view what,
                                    const JsonLimits &limits = {});

/// One value inside a document with the path that leads to it ("rope_scaling.factor"). Getters take
/// a field's name; a field that is null counts as absent. Getters without a fallback fail where the
/// field is absent. All limits are inclusive.
class JsonView {
public:
  const Json &value() const { return *json; }
  const std::string &path() const { return fieldPath; }

  bool isObject() const { return json->is_object(); }
  bool isArray() const { return json->is_array(); }
  bool isString() const { return json->is_string(); }
  bool isInteger() const { return json->is_number_integer(); }

  /// True where this is an object with that field and the field is not null.
  bool has(std::string_view field) const;

  Expected<JsonView> at(std::string_view field) const; ///< of any kind
  Expected<JsonView> object(std::string_view field) const;
  Expected<std::vector<JsonView>> array(std::string_view field, uint64_t maxLength) const;
  Expected<std::string> string(std::string_view field, uint64_t maxBytes) const;
  Expected<int64_t> integer(std::string_view field, int64_t low, int64_t high) const;
  Expected<double> number(std::string_view field, double low, double high) const;
  Expected<bool> boolean(std::string_view field) const;

  Expected<int64_t> integerOr(std::string_view field, int64_t low, int64_t high,
                              int64_t fallback) const;
  Expected<double> numberOr(std::string_view field, double low, double high, double fallback) const;
  Expected<bool> booleanOr(std::string_view field, bool fallback) const;
  Expected<std::string> stringOr(std::string_view field, uint64_t maxBytes,
                                 std::string fallback) const;

  /// This value itself, checked.
  Expected<std::vector<JsonView>> elements(uint64_t maxLength) const;
  Expected<std::vector<std::pair<std::string, JsonView>>> members() const;
  Expected<std::string> asString(uint64_t maxBytes) const;
  /// An integer written without fraction or exponent, within the limits.
  Expected<int64_t> asInteger(int64_t low, int64_t high) const;
  /// A finite number within the limits.
  Expected<double> asNumber(double low, double high) const;
  Expected<bool> asBoolean() const;

  /// An error about this value: "WHAT (FILE, field PATH): why".
  tl::unexpected<Error> error(std::string why, std::string hint = "") const;

private:
  friend class JsonDocument;
  JsonView(const JsonDocument &document, const Json &json, std::string path)
      : document(&document), json(&json), fieldPath(std::move(path)) {}

  Expected<JsonView> atKind(std::string_view field, Json::value_t kind) const;

  const JsonDocument *document;
  const Json *json;
  std::string fieldPath;
};

} // namespace kernelforge
