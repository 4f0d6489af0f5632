// Strings of the template language: text with a mark on each byte that says whether a user wrote
// it, and the string operations of Python over them, by code points.
#pragma once

#include "kernelforge/llm/template/Limits.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge::chat {

/// Valid UTF-8. `marks` is empty (nothing is from a user) or has one byte, 0 or 1, for each of
/// `bytes`.
struct Text {
  std::string bytes;
  std::string marks;

  Text() = default;
  explicit Text(std::string text, bool fromUser = false);

  size_t size() const { return bytes.size(); }
  bool anyUser() const { return marks.find('\1') != std::string::npos; }
  Text substr(size_t begin, size_t length) const;
  void append(const Text &other);
  void append(std::string_view trusted);
};

/// `bytes` made out of all of `source`: from a user if any of it was.
Text derived(std::string bytes, const Text &source);

/// White space as Python's str.isspace() sees it.
bool isSpace(char32_t codePoint);
size_t countCodePoints(std::string_view text);
/// Byte offsets of all code points and of the end.
std::vector<size_t> codePointOffsets(std::string_view text);

enum class Side { Left = 1, Right = 2, Both = 3 };
/// Removes white space, or any of the code points of `chars`, from the ends.
Text strip(const Text &text, Side side, const std::optional<std::string_view> &chars = {});

/// The limit says how many cuts are made at most; negative: all.
std::vector<Text> splitWhitespace(const Text &text, int64_t limit);
/// `separator` is not empty. `fromRight` makes the cuts from the end.
std::vector<Text> splitOn(const Text &text, std::string_view separator, int64_t limit,
                          bool fromRight);
std::vector<Text> splitLines(const Text &text);

/// Replaces at most `limit` occurrences (negative: all); an empty `old` stands between all code
/// points, as in Python. What it makes is charged to the budget.
Text replaceAll(const Text &text, const Text &old, const Text &with, int64_t limit, Budget &budget);

Text upper(const Text &text);
Text lower(const Text &text);
Text capitalize(const Text &text); ///< first character titlecase, the rest lower
Text titleCase(const Text &text);  ///< as Python's str.title()
Text titleWords(const Text &text); ///< as Jinja's filter: words begin after space and - ( { [ <
Text reversed(const Text &text);
Text escapeHtml(const Text &text, Budget &budget);

} // namespace kernelforge::chat
