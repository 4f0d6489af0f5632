// The log: lines for people about what happens beside the results. It goes nowhere, neither to
// standard output nor to standard error, until a program asks for it.
#pragma once

#include "kernelforge/support/Error.h"

#include <memory>
#include <spdlog/spdlog.h>
#include <string_view>

namespace kernelforge {

/// Where the library logs: `logger().warn("{} lines are skipped", count)`.
spdlog::logger &logger();

/// Makes another logger the log; returns the one before. Not while another thread may log: it is
/// chosen when a program starts.
std::shared_ptr<spdlog::logger> setLogger(std::shared_ptr<spdlog::logger> logger);

/// Sends the log to standard error, from `level` on: "kernelforge: warning: ...".
void logToStandardError(spdlog::level::level_enum level);

/// The level that $KERNELFORGE_LOG names, else `usual`. Unusable where it names none.
Expected<spdlog::level::level_enum> logLevelFromEnvironment(spdlog::level::level_enum usual);

} // namespace kernelforge
