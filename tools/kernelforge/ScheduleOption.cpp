#include "ScheduleOption.h"

#include "kernelforge/support/MappedFile.h"

#include <filesystem>

using namespace kernelforge;
using namespace kernelforge::cli;

/// What who wrote a text that is no JSON has meant; empty where that is not known.
static std::string hintAbout(const std::string &text) {
  std::error_code error;
  if (std::filesystem::exists(text, error))
    return "write @" + text + " to read that file";
  if (text.starts_with('{') && text.find('"') == std::string::npos)
    return "write names in quotes: '{\"mr\":4}'";
  return "";
}

Expected<KnobValues> cli::readSchedule(const std::string &option, const std::string &text) {
  if (text.starts_with('@')) {
    KF_TRY(const std::string json, readText(text.substr(1), "schedule is not usable", 64 << 10));
    return parseKnobs(json, text.substr(1));
  }
  Expected<KnobValues> knobs = parseKnobs(text, option);
  if (!knobs)
    if (std::string hint = hintAbout(text); !hint.empty()) {
      Error error = knobs.error();
      error.hint = std::move(hint);
      return tl::unexpected(std::move(error));
    }
  return knobs;
}
