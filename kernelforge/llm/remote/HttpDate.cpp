#include "kernelforge/llm/remote/HttpDate.h"

#include <chrono>
#include <clocale>

namespace kernelforge {

std::optional<std::time_t> parseHttpDate(const std::string &text) {
  // Names of days and months are English, whatever the user's locale says.
  static const locale_t english = ::newlocale(LC_ALL_MASK, "C", nullptr);
  for (const char *form :
       {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"}) {
    std::tm date = {};
    const char *end = ::strptime_l(text.c_str(), form, &date, english);
    if (!end || *end != '\0')
      continue;
    const std::chrono::year_month_day day(
        std::chrono::year(date.tm_year + 1900),
        std::chrono::month(static_cast<unsigned>(date.tm_mon + 1)),
        std::chrono::day(static_cast<unsigned>(date.tm_mday)));
    if (day.ok()) // timegm would take 31 November for 1 December
      return ::timegm(&date);
  }
  return std::nullopt;
}

} // namespace kernelforge
