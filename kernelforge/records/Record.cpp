#include "kernelforge/records/Record.h"

#include <array>
#include <ctime>

namespace kernelforge {

namespace {

constexpr std::array<std::pair<RecordStatus, std::string_view>, 7> statusNames{
    {{RecordStatus::Ok, "ok"},
     {RecordStatus::Unsupported, "unsupported"},
     {RecordStatus::Unavailable, "unavailable"},
     {RecordStatus::CompileError, "compile_error"},
     {RecordStatus::Timeout, "timeout"},
     {RecordStatus::Crash, "crash"},
     {RecordStatus::WrongResult, "wrong_result"}}};

} // namespace

std::string_view statusName(RecordStatus status) {
  for (const auto &[value, name] : statusNames)
    if (value == status)
      return name;
  return "unknown";
}

std::vector<std::string> allStatusNames() {
  std::vector<std::string> names;
  for (const auto &[value, name] : statusNames)
    names.emplace_back(name);
  return names;
}

std::optional<RecordStatus> statusFromName(std::string_view name) {
  for (const auto &[value, known] : statusNames)
    if (known == name)
      return value;
  return std::nullopt;
}

std::string recordTimeNow() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  const size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return {text.data(), length};
}

} // namespace kernelforge
