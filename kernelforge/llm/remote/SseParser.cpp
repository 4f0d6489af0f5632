#include "kernelforge/llm/remote/SseParser.h"

#include <fmt/format.h>
#include <utility>

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
    if (line.size() + event.data.size() > mostBytes)
      return failed("answer is not usable", where,
                    fmt::format("an event of its stream has more than {} bytes", mostBytes));
  }
  return {};
}

Status SseParser::endLine(const Take &take) {
  if (!begun && line.starts_with("\xEF\xBB\xBF"))
    line.erase(0, 3);
  begun = true;
  if (line.empty())
    return dispatch(take);
  // Other fields (id, retry) say nothing here, and lines that begin with a colon are comments.
  if (const auto name = valueOf("event")) {
    event.name = *name;
  } else if (const auto data = valueOf("data")) {
    if (hasData)
      event.data += '\n';
    event.data += *data;
    hasData = true;
  }
  line.clear();
  return {};
}

/// What the line says of a field; nothing where it is another's.
std::optional<std::string_view> SseParser::valueOf(std::string_view field) const {
  std::string_view text = line;
  if (!text.starts_with(field))
    return std::nullopt;
  text.remove_prefix(field.size());
  if (text.empty())
    return text;
  if (!text.starts_with(':'))
    return std::nullopt;
  text.remove_prefix(1);
  if (text.starts_with(' '))
    text.remove_prefix(1);
  return text;
}

Status SseParser::dispatch(const Take &take) {
  const SseEvent whole = std::exchange(event, {});
  return std::exchange(hasData, false) ? take(whole) : Status();
}

Status SseParser::finish(const Take &take) {
  if (!line.empty())
    KF_CHECK(endLine(take));
  return dispatch(take);
}

} // namespace kernelforge
