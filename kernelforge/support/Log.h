// The log: lines for people about what happens beside the results. It goes nowhere, neither to
// standard output nor to standard error, until a program asks for it.
#pragma once

#include "kernelforge/support/Error.h"

#include <fmt/format.h>
#include <memory>
#include <spdlog/common.h>
#include <string_view>
#include <utility>

namespace spdlog {
class logger;
}

namespace kernelforge {

/// Where lines go to. The text is made here and not by spdlog, whose templates would have all of
/// fmt's formatting compiled into each file that logs; and only where somebody asked for it.
class Log {
public:
  template <typename... T> void debug(fmt::format_string<T...> format, T &&...values) const {
    write(spdlog::level::debug, format, std::forward<T>(values)...);
  }
  template <typename... T> void info(fmt::format_string<T...> format, T &&...values) const {
    write(spdlog::level::info, format, std::forward<T>(values)...);
  }
  template <typename... T> void warn(fmt::format_string<T...> format, T &&...values) const {
    write(spdlog::level::warn, format, std::forward<T>(values)...);
  }
  template <typename... T> void error(fmt::format_string<T...> format, T &&...values) const {
    write(spdlog::level::err, format, std::forward<T>(values)...);
  }
  void flush() const;

private:
  template <typename... T>
  void write(spdlog::level::level_enum level, fmt::format_string<T...> format,
             T &&...values) const {
    if (isAskedFor(level))
      writeLine(level, fmt::format(format, std::forward<T>(values)...));
  }
  bool isAskedFor(spdlog::level::level_enum level) const;
  void writeLine(spdlog::level::level_enum level, std::string_view line) const;
};

/// Where the library logs: `logger().warn("{} lines are skipped", count)`.
Log logger();

/// Makes another logger the log; returns the one before. Not while another thread may log: it is
/// chosen when a program starts.
std::shared_ptr<spdlog::logger> setLogger(std::shared_ptr<spdlog::logger> logger);

/// Sends the log to standard error, from `level` on: "kernelforge: warning: ...".
void logToStandardError(spdlog::level::level_enum level);

/// The level that $KERNELFORGE_LOG names, else `usual`. Unusable where it names none.
Expected<spdlog::level::level_enum> logLevelFromEnvironment(spdlog::level::level_enum usual);

} // namespace kernelforge
