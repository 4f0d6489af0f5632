#include "kernelforge/llm/StopStrings.h"

#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <fmt/format.h>

namespace kernelforge {

Expected<StopStrings> StopStrings::create(std::vector<std::string> strings) {
  auto error = [](size_t index, std::string why) {
    return unusable("stop string is not usable", fmt::format("number {}", index + 1),
                    std::move(why));
  };
  if (strings.size() > maxStrings)
    return unusable("stop strings are not usable", "",
                    fmt::format("{} are more than {}", strings.size(), maxStrings));
  for (size_t i = 0; i < strings.size(); ++i) {
    if (strings[i].empty())
      return error(i, "it is empty");
    if (strings[i].size() > maxStringBytes)
      return error(i, fmt::format("{} bytes are more than {}", strings[i].size(), maxStringBytes));
    if (!isValidUtf8(strings[i]))
      return error(i, "it is not valid UTF-8");
  }
  StopStrings out;
  out.strings = std::move(strings);
  return out;
}

StopStrings::Result StopStrings::put(std::string_view piece) {
  Result result;
  if (done)
    return result;
  if (strings.empty()) {
    result.text = piece;
    return result;
  }
  for (char c : piece) {
    held.push_back(c);
    size_t longest = 0;
    for (size_t i = 0; i < strings.size(); ++i)
      if (strings[i].size() > longest && held.ends_with(strings[i])) {
        longest = strings[i].size();
        result.index = i;
      }
    if (longest) {
      held.resize(held.size() - longest);
      result.text += held;
      held.clear();
      result.stopped = done = true;
      return result;
    }
    // Keep the longest end that begins some stop string; give out the rest.
    size_t keep = 0;
    for (const std::string &s : strings)
      for (size_t n = std::min(held.size(), s.size() - 1); n > keep; --n)
        if (std::string_view(held).ends_with(std::string_view(s).substr(0, n))) {
          keep = n;
          break;
        }
    result.text.append(held, 0, held.size() - keep);
    held.erase(0, held.size() - keep);
  }
  return result;
}

std::string StopStrings::finish() {
  std::string rest = std::move(held);
  held.clear();
  return rest;
}

} // namespace kernelforge
