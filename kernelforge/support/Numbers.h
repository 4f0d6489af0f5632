// Numbers that people write: decimal, whole, within limits, or refused with what was written.
#pragma once

#include <charconv>
#include <cmath>
#include <concepts>
#include <limits>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace kernelforge {

/// An integer as people write it: 1048576 is "1,048,576".
std::string grouped(std::integral auto value);

/// A number of a limit as people write it: 1e-6 is "0.000001", 3600.0 is "3,600".
std::string writtenOut(double value);

/// The complaint about `text`, where it should be a `kind` ("integer") "from LOW to HIGH".
std::string noNumber(std::string_view text, std::string_view kind, const std::string &low,
                     const std::string &high);

/// The decimal integer `text`, from `low` to `high`: digits, with a minus before them where it is
/// negative, and nothing else. Leading zeros mean nothing. What is none, or outside, is answered
/// with the complaint "'1x' is no integer from 1 to 1,024".
template <std::integral T>
tl::expected<T, std::string> parseInteger(std::string_view text,
                                          T low = std::numeric_limits<T>::min(),
                                          T high = std::numeric_limits<T>::max()) {
  T value = 0;
  const char *end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < low || value > high)
    return tl::unexpected(noNumber(text, "integer", grouped(low), grouped(high)));
  return value;
}

/// The finite number `text`, from `low` to `high`, in decimal with or without an exponent. What is
/// none (nan, inf, 0x1p4), outside, or beyond what a double holds, is answered with a complaint.
tl::expected<double, std::string> parseNumber(std::string_view text, double low, double high);

/// Puts a comma between groups of three digits of the integer that `digits` begins with.
std::string groupDigits(std::string digits);

std::string grouped(std::integral auto value) { return groupDigits(std::to_string(value)); }

} // namespace kernelforge
