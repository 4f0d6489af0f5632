// What processes that belong together say to each other: a JSON object a line, and where that is
// not enough, bytes behind the line.
#pragma once

#include "kernelforge/support/Json.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kernelforge {

/// What came: an object, and the bytes behind it.
struct Message {
  JsonDocument document;
  std::string bytes;

  const Json &json() const { return document.value(); }
};

/// A message as it is sent: `json`, an object, in one line; then `bytes`, which the line announces
/// in a field of its own ("bytes_behind") where there are any.
std::string encodeMessage(const Json &json, std::string_view bytes = {});

/// Puts messages together from what comes, in pieces of any size.
class MessageReader {
public:
  /// `what` and `where` are those of the errors: "answer is not usable", "worker".
  MessageReader(std::string what, std::string where, uint64_t mostBytes)
      : what(std::move(what)), where(std::move(where)), mostBytes(mostBytes) {}

  void add(std::string_view piece) { pending += piece; }

  /// The next message; nothing where some of it is still to come. Unusable where what came is no
  /// message, or a message has more than `mostBytes`: that, as far as it came, is skipped.
  Expected<std::optional<Message>> next();

private:
  tl::unexpected<Error> refuse(std::string why);

  std::string what, where;
  uint64_t mostBytes;
  std::string pending;
  size_t searched = 0;          ///< bytes of `pending` that have no line feed
  std::optional<Message> begun; ///< its bytes are still to come
  uint64_t wanted = 0;          ///< bytes of it
};

} // namespace kernelforge
