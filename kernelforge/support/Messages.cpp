#include "kernelforge/support/Messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace kernelforge {

static constexpr const char *bytesField = "bytes_behind";

std::string encodeMessage(const Json &json, std::string_view bytes) {
  auto line = [](const Json &object) {
    return object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  };
  if (bytes.empty())
    return line(json);
  Json announced = json;
  announced[bytesField] = bytes.size();
  return line(announced).append(bytes);
}

tl::unexpected<Error> MessageReader::refuse(std::string why) {
  return unusable(what, where, std::move(why));
}

Expected<std::optional<Message>> MessageReader::next() {
  if (!begun) {
    const size_t end = pending.find('\n', searched);
    if (std::min(end, pending.size()) > mostBytes) {
      pending.clear();
      return refuse(fmt::format("it has more than {} bytes", mostBytes));
    }
    if (end == pending.npos) {
      searched = pending.size();
      return std::optional<Message>();
    }
    const std::string line = pending.substr(0, end);
    pending.erase(0, end + 1);
    searched = 0;
    Message message;
    KF_TRY(message.document, parseJson(line, what, where));
    const JsonView root = message.document.root();
    if (!root.value().is_object())
      return refuse("it is no JSON object");
    KF_TRY(const int64_t behind, root.integerOr(bytesField, 0, INT64_MAX, 0));
    wanted = static_cast<uint64_t>(behind);
    if (wanted > mostBytes)
      return refuse(fmt::format("it has more than {} bytes", mostBytes));
    begun = std::move(message);
  }
  if (pending.size() < wanted)
    return std::optional<Message>();
  begun->bytes = pending.substr(0, wanted);
  pending.erase(0, wanted);
  return std::exchange(begun, std::nullopt);
}

} // namespace kernelforge
