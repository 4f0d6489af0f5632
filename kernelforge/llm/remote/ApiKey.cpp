#include "kernelforge/llm/remote/ApiKey.h"

#include <algorithm>
#include <array>
#include <unordered_set>
#include <vector>

#include <fmt/format.h>

namespace kernelforge {

static constexpr size_t leastKey = 8, mostKey = 4096;

/// Characters of the key that give it away.
static constexpr size_t leastPiece = 6;

static bool isAlphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

Expected<ApiKey> ApiKey::create(std::string text, const std::string &name) {
  if (text.empty())
    return missing("there is no API key", name, "it is not set or empty",
                   "export " + name + "=... with a key of your account");
  const size_t body = text.find_last_not_of('=') + 1; // npos + 1 is 0
  const bool clean =
      std::all_of(text.begin(), text.begin() + static_cast<ptrdiff_t>(body), [](char c) {
        return isAlphanumeric(c) || std::string_view("-._~+/").find(c) != std::string_view::npos;
      });
  if (!clean || body == 0 || text.size() < leastKey || text.size() > mostKey)
    return unusable(
        "API key is not usable", name,
        clean && body > 0
            ? fmt::format("it has {} characters, not {} to {}", text.size(), leastKey, mostKey)
            : "it has characters that no key has: a space, a quote, the end of a line?",
        "set it to the key alone");
  return ApiKey(std::move(text));
}

namespace {

/// A text as it is searched: one reading of what is shown.
struct Reading {
  std::string text;
  std::vector<size_t> begin; ///< of each character and of the end, in what is shown; empty: as here

  size_t beginOf(size_t i) const { return begin.empty() ? i : begin[i]; }
};

} // namespace

static Reading plainly(std::string_view shown, char (*change)(char)) {
  Reading reading;
  for (char c : shown)
    reading.text += change(c);
  return reading;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }

static int digitValue(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  return lower(c) >= 'a' && lower(c) <= 'f' ? lower(c) - 'a' + 10 : -1;
}

static Reading percentDecoded(std::string_view shown) {
  Reading reading;
  for (size_t i = 0; i < shown.size();) {
    const bool encoded = shown[i] == '%' && i + 2 < shown.size() && digitValue(shown[i + 1]) >= 0 &&
                         digitValue(shown[i + 2]) >= 0;
    const size_t length = encoded ? 3 : 1;
    reading.text +=
        lower(encoded ? static_cast<char>(digitValue(shown[i + 1]) * 16 + digitValue(shown[i + 2]))
                      : shown[i]);
    reading.begin.push_back(i);
    i += length;
  }
  reading.begin.push_back(shown.size());
  return reading;
}

static std::string hexadecimal(std::string_view text) {
  std::string digits;
  for (unsigned char c : text)
    digits += fmt::format("{:02x}", c);
  return digits;
}

/// The base64 characters that these bytes decide wholly where the first begins after `offset` bits
/// of another character (0, 2 or 4).
static std::string base64From(std::string_view text, size_t offset) {
  static constexpr std::string_view alphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string encoded;
  uint32_t bits = 0;
  size_t held = 0, skip = offset;
  for (unsigned char c : text) {
    bits = (bits << 8 | c) & 0xFFFF;
    held += 8;
    if (skip > 0) {
      held -= skip;
      skip = 0;
    }
    for (; held >= 6; held -= 6)
      encoded += alphabet[(bits >> (held - 6)) & 63];
  }
  return encoded;
}

/// Marks every place of `reading` where `length` characters of `secret` stand.
static void mark(const Reading &reading, std::string_view secret, size_t length,
                 std::vector<bool> &marked) {
  if (secret.size() < length)
    return;
  std::unordered_set<std::string_view> pieces;
  for (size_t i = 0; i + length <= secret.size(); ++i)
    pieces.insert(secret.substr(i, length));
  const std::string_view text = reading.text;
  for (size_t i = 0; i + length <= text.size(); ++i)
    if (pieces.contains(text.substr(i, length)))
      std::fill(marked.begin() + static_cast<ptrdiff_t>(reading.beginOf(i)),
                marked.begin() + static_cast<ptrdiff_t>(reading.beginOf(i + length)), true);
}

std::string ApiKey::redact(std::string_view shown) const {
  std::vector<bool> marked(shown.size(), false);
  std::string key = text;
  std::ranges::transform(key, key.begin(), lower); // names of headers come in lower case
  mark(plainly(shown, lower), key, leastPiece, marked);
  mark(percentDecoded(shown), key, leastPiece, marked);
  mark(plainly(shown, lower), hexadecimal(text), 2 * leastPiece, marked);
  const auto standard = [](char c) { return c == '-' ? '+' : c == '_' ? '/' : c; };
  const Reading base64 = plainly(shown, standard);
  for (size_t offset : {0, 2, 4}) // six bytes decide seven characters at least
    mark(base64, base64From(text, offset), leastPiece + 1, marked);
  std::string clean;
  for (size_t i = 0; i < shown.size(); ++i) {
    if (!marked[i])
      clean += shown[i];
    else if (i == 0 || !marked[i - 1])
      clean += "[key]";
  }
  return clean;
}

} // namespace kernelforge
