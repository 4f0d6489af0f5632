#include "kernelforge/support/Log.h"

#include "kernelforge/support/Suggest.h"

#include <cstdlib>
#include <utility>

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_color_sinks.h>

namespace kernelforge {

/// The logger of now. Never destroyed: threads and other statics may log until the very end.
static std::shared_ptr<spdlog::logger> &current() {
  static auto *const slot = [] {
    auto silent = std::make_shared<spdlog::logger>("kernelforge"); // it has no sink
    silent->set_level(spdlog::level::off);
    return new std::shared_ptr<spdlog::logger>(std::move(silent));
  }();
  return *slot;
}

Log logger() { return {}; }

void Log::flush() const { current()->flush(); }

bool Log::isAskedFor(spdlog::level::level_enum level) const { return current()->should_log(level); }

void Log::writeLine(spdlog::level::level_enum level, std::string_view line) const {
  current()->log(level, line);
}

std::shared_ptr<spdlog::logger> setLogger(std::shared_ptr<spdlog::logger> logger) {
  return std::exchange(current(), std::move(logger));
}

void logToStandardError(spdlog::level::level_enum level) {
  auto logger = std::make_shared<spdlog::logger>(
      "kernelforge", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("kernelforge: %^%l%$: %v");
  logger->set_level(level);
  setLogger(std::move(logger));
}

Expected<spdlog::level::level_enum> logLevelFromEnvironment(spdlog::level::level_enum usual) {
  const char *variable = std::getenv("KERNELFORGE_LOG");
  if (!variable || !*variable)
    return usual;
  const std::string name = variable;
  const spdlog::level::level_enum level = spdlog::level::from_str(name);
  // What it does not know is "off" to spdlog, and would lose the warnings, too.
  if (level == spdlog::level::off && name != "off")
    return unusable("log level is not known", "KERNELFORGE_LOG=" + name, "there is no such level",
                    namesHint(name, std::vector<std::string>{"trace", "debug", "info", "warn",
                                                             "error", "critical", "off"}));
  return level;
}

} // namespace kernelforge
