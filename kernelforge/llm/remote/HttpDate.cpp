#include "kernelforge/llm/remote/HttpDate.h"

#include <array>
#include <chrono>
#include <span>

namespace kernelforge {

namespace {

constexpr std::array<std::string_view, 7> days = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                                  "Friday", "Saturday", "Sunday"};
constexpr std::array<std::string_view, 12> months = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

/// Takes a date apart from its front; after the first part that is not there, nothing is.
class Parts {
public:
  explicit Parts(std::string_view text) : text(text) {}

  bool isWhole() const { return isSound && text.empty(); }

  void literal(std::string_view expected) {
    isSound = isSound && text.starts_with(expected);
    if (isSound)
      text.remove_prefix(expected.size());
  }

  /// The place of the name that comes next, of which the first `length` letters are written (0:
  /// all).
  unsigned name(std::span<const std::string_view> names, size_t length) {
    for (unsigned i = 0; i < names.size(); ++i)
      if (const auto written = length ? names[i].substr(0, length) : names[i];
          isSound && text.starts_with(written)) {
        text.remove_prefix(written.size());
        return i;
      }
    isSound = false;
    return 0;
  }

  /// A number of exactly so many digits, the first of which may be a space where that is said.
  int number(size_t digits, bool isPadded = false) {
    int value = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char c = text.size() > i ? text[i] : '\0';
      const bool isPad = isPadded && i == 0 && c == ' ';
      isSound = isSound && (isPad || (c >= '0' && c <= '9'));
      if (!isSound)
        return 0;
      value = value * 10 + (isPad ? 0 : c - '0');
    }
    text.remove_prefix(digits);
    return value;
  }

private:
  std::string_view text;
  bool isSound = true;
};

struct Date {
  int year = 0, day = 0, hour = 0, minute = 0, second = 0;
  unsigned month = 0; ///< from 0

  void readTime(Parts &parts) {
    hour = parts.number(2);
    parts.literal(":");
    minute = parts.number(2);
    parts.literal(":");
    second = parts.number(2);
  }
};

/// A form that begins with the day: after its name, "06 Nov 1994 08:49:37 GMT" with a separator of
/// its own.
std::optional<Date> readDayFirst(Parts parts, std::string_view separator, size_t yearDigits) {
  Date date;
  parts.literal(", ");
  date.day = parts.number(2);
  parts.literal(separator);
  date.month = parts.name(months, 3);
  parts.literal(separator);
  date.year = parts.number(yearDigits);
  parts.literal(" ");
  date.readTime(parts);
  parts.literal(" GMT");
  return parts.isWhole() ? std::optional(date) : std::nullopt;
}

std::optional<Date> readFixed(std::string_view text) {
  Parts parts(text);
  parts.name(days, 3);
  return readDayFirst(parts, " ", 4);
}

std::optional<Date> readShortYear(std::string_view text, std::time_t now) {
  Parts parts(text);
  parts.name(days, 0);
  std::optional<Date> date = readDayFirst(parts, "-", 2);
  if (!date)
    return std::nullopt;
  const std::chrono::year_month_day today(
      std::chrono::floor<std::chrono::days>(std::chrono::system_clock::from_time_t(now)));
  const int latest = static_cast<int>(today.year()) + 50;
  date->year = latest - (latest - date->year) % 100;
  return date;
}

std::optional<Date> readUnpunctuated(std::string_view text) {
  Parts parts(text);
  Date date;
  parts.name(days, 3);
  parts.literal(" ");
  date.month = parts.name(months, 3);
  parts.literal(" ");
  date.day = parts.number(2, /*isPadded=*/true);
  parts.literal(" ");
  date.readTime(parts);
  parts.literal(" ");
  date.year = parts.number(4);
  return parts.isWhole() ? std::optional(date) : std::nullopt;
}

} // namespace

std::optional<std::time_t> parseHttpDate(std::string_view text, std::time_t now) {
  std::optional<Date> date = readFixed(text);
  if (!date)
    date = readShortYear(text, now);
  if (!date)
    date = readUnpunctuated(text);
  if (!date)
    return std::nullopt;
  const std::chrono::year_month_day day(std::chrono::year(date->year),
                                        std::chrono::month(date->month + 1),
                                        std::chrono::day(static_cast<unsigned>(date->day)));
  if (!day.ok() || date->hour > 23 || date->minute > 59 || date->second > 60) // 60: a leap second
    return std::nullopt;
  const auto at = std::chrono::sys_days(day) + std::chrono::hours(date->hour) +
                  std::chrono::minutes(date->minute) + std::chrono::seconds(date->second);
  return std::chrono::system_clock::to_time_t(at);
}

} // namespace kernelforge
