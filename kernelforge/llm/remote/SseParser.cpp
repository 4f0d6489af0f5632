#include "kernelforge/llm/remote/SseParser.h"

#include <fmt/format.h>

namespace kernelforge {

Status SseParser::feed(std::string_view bytes, const Take &take) {
  for (char c : bytes) {
    const bool second = c == '\n' && afterReturn;
    afterReturn = c == '\r';
    if (second)
      continue;
    if (c == '\n' || c == '\r') {
      KF_CHECK(endLine(take));
      continue;
    }
    line += c;
    if (line.size() + data.size() > mostBytes)
      return failed("answer is not usable", where,
                    fmt::format("an event of its stream has more than {} bytes", mostBytes));
  }
  return {};
}

Status SseParser::endLine(const Take &take) {
  std::string_view text = line;
  if (!begun && text.starts_with("\xEF\xBB\xBF"))
    text.remove_prefix(3);
  begun = true;
  if (text.empty()) {
    line.clear();
    return dispatch(take);
  }
  // Other fields (event, id, retry) say nothing here, and lines that begin with a colon are
  // comments.
  if (text == "data" || text.starts_with("data:")) {
    text.remove_prefix(std::min<size_t>(5, text.size()));
    if (text.starts_with(' '))
      text.remove_prefix(1);
    if (hasData)
      data += '\n';
    data += text;
    hasData = true;
  }
  line.clear();
  return {};
}

Status SseParser::dispatch(const Take &take) {
  if (!hasData)
    return {};
  const std::string event = std::move(data);
  data.clear();
  hasData = false;
  return take(event);
}

Status SseParser::finish(const Take &take) {
  if (!line.empty())
    KF_CHECK(endLine(take));
  return dispatch(take);
}

} // namespace kernelforge
