// Server-sent events, as they come over a connection: split anywhere.
#pragma once

#include "kernelforge/support/Error.h"

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace kernelforge {

/// One event of a stream.
struct SseEvent {
  std::string name; ///< its field "event"; empty where there is none
  std::string data; ///< lines joined by line feeds
};

/// Source of the format: WHATWG HTML, section 9.2.6, "Interpreting an event stream".
class SseParser {
public:
  using Take = std::function<Status(const SseEvent &event)>;

  /// `where` is for errors; an event may have `mostBytes`.
  explicit SseParser(std::string where, size_t mostBytes = 4u << 20)
      : where(std::move(where)), mostBytes(mostBytes) {}

  /// Takes the next bytes. Failed where an event is too large, and what `take` returns.
  Status feed(std::string_view bytes, const Take &take);

  /// The end of the stream. An event that no empty line ended counts: servers leave it out.
  Status finish(const Take &take);

private:
  Status endLine(const Take &take);
  std::optional<std::string_view> valueOf(std::string_view field) const;
  Status dispatch(const Take &take);

  std::string where;
  size_t mostBytes;
  std::string line;
  SseEvent event;
  bool hasData = false;
  bool afterReturn = false; ///< a line feed now belongs to the carriage return before it
  bool begun = false;       ///< the first line was seen: no byte order mark any more
};

} // namespace kernelforge
