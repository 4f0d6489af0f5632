#include "kernelforge/support/Numbers.h"

#include "kernelforge/support/Error.h"

#include <fmt/format.h>

namespace kernelforge {

std::string groupDigits(std::string digits) {
  const size_t first = digits.starts_with('-') ? 1 : 0;
  for (size_t at = std::min(digits.find('.'), digits.size()); at > first + 3;)
    digits.insert(at -= 3, 1, ',');
  return digits;
}

std::string writtenOut(double value) {
  std::string text = fmt::format("{:.9f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.'))
    text.pop_back();
  return groupDigits(std::move(text));
}

std::string noNumber(std::string_view text, std::string_view kind, const std::string &low,
                     const std::string &high) {
  constexpr size_t mostShown = 60;
  return fmt::format("'{}{}' is no {} from {} to {}", escapeControls(text.substr(0, mostShown)),
                     text.size() > mostShown ? "..." : "", kind, low, high);
}

tl::expected<double, std::string> parseNumber(std::string_view text, double low, double high) {
  double value = 0;
  const char *end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  // The comparisons are false for NaN.
  if (error != std::errc() || stop != end || !(value >= low && value <= high))
    return tl::unexpected(noNumber(text, "number", writtenOut(low), writtenOut(high)));
  return value;
}

} // namespace kernelforge
