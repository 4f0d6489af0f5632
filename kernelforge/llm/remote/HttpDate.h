// Dates as HTTP writes them: RFC 9110, section 5.6.7, whatever the locale.
#pragma once

#include <ctime>
#include <optional>
#include <string_view>

namespace kernelforge {

/// The time that "Sun, 06 Nov 1994 08:49:37 GMT" says, or one of the two obsolete forms that a
/// recipient must accept: "Sunday, 06-Nov-94 08:49:37 GMT", whose year is taken as the one of these
/// digits that is at most 50 years after `now`, and "Sun Nov  6 08:49:37 1994". Nothing where a
/// text is none of them or there is no such date; the name of the day is not compared with the
/// date.
std::optional<std::time_t> parseHttpDate(std::string_view text, std::time_t now);

} // namespace kernelforge
