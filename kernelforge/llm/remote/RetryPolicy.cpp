#include "kernelforge/llm/remote/RetryPolicy.h"

#include "kernelforge/llm/remote/HttpDate.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace kernelforge {

bool asksForRetry(const HttpHead &head) {
  if (const std::string *told = head.find("x-should-retry")) {
    if (*told == "true")
      return true;
    if (*told == "false")
      return false;
  }
  return head.status == 408 || head.status == 409 || head.status == 429 || head.status >= 500;
}

static std::optional<double> positiveNumber(const std::string &text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) ||
      value < 0)
    return std::nullopt;
  return value;
}

std::optional<double> requestedWait(const HttpHead &head, std::time_t now) {
  if (const std::string *text = head.find("retry-after-ms"))
    if (const auto milliseconds = positiveNumber(*text))
      return *milliseconds / 1000;
  const std::string *text = head.find("retry-after");
  if (!text)
    return std::nullopt;
  if (const auto seconds = positiveNumber(*text))
    return seconds;
  const auto date = parseHttpDate(*text);
  return date ? std::optional(std::max(0.0, std::difftime(*date, now))) : std::nullopt;
}

double backOff(int retry, double uniform) {
  return std::min(0.5 * std::exp2(std::clamp(retry, 0, 10)), 8.0) * (1 - 0.25 * uniform);
}

} // namespace kernelforge
