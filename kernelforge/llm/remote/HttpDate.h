// Dates as HTTP writes them: RFC 9110, section 5.6.7, whatever the locale.
#pragma once

#include <ctime>
#include <optional>
#include <string>

namespace kernelforge {

/// The time that "Sun, 06 Nov 1994 08:49:37 GMT" says, or one of the two obsolete forms that a
/// recipient must accept: "Sunday, 06-Nov-94 08:49:37 GMT" (a year from 1969 to 2068) and "Sun Nov
/// 6 08:49:37 1994". Nothing where a text is none of them or there is no such date; the name of the
/// day is not compared with the date.
std::optional<std::time_t> parseHttpDate(const std::string &text);

} // namespace kernelforge
