#include "kernelforge/autotune/Messages.h"

#include "kernelforge/backend/ProgramJson.h"

#include <cerrno>
#include <chrono>
#include <cstring>

#include <poll.h>
#include <sys/socket.h>

using namespace kernelforge;

namespace {

/// Before each message: the bytes of its two parts.
struct Header {
  uint64_t jsonBytes, otherBytes;
};
constexpr uint64_t mostBytes = uint64_t(1) << 30;

bool sendAll(int socket, const void *data, size_t bytes) {
  const char *from = static_cast<const char *>(data);
  while (bytes > 0) {
    const ssize_t sent = ::send(socket, from, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR)
      continue;
    if (sent <= 0)
      return false;
    from += sent;
    bytes -= static_cast<size_t>(sent);
  }
  return true;
}

using Clock = std::chrono::steady_clock;

Received receiveAll(int socket, void *data, size_t bytes, Clock::time_point deadline,
                    bool forEver) {
  char *to = static_cast<char *>(data);
  while (bytes > 0) {
    int wait = -1;
    if (!forEver) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
      if (left <= 0)
        return Received::TimedOut;
      wait = static_cast<int>(std::min<int64_t>(left, 1'000'000));
    }
    pollfd waiting{socket, POLLIN, 0};
    const int ready = ::poll(&waiting, 1, wait);
    if (ready < 0 && errno == EINTR)
      continue;
    if (ready == 0)
      continue; // the deadline is looked at above
    const ssize_t got = ::recv(socket, to, bytes, 0);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return Received::Closed;
    to += got;
    bytes -= static_cast<size_t>(got);
  }
  return Received::Message;
}

} // namespace

bool kernelforge::sendMessage(int socket, const Message &message) {
  const std::string json = message.json.dump();
  const Header header{json.size(), message.bytes.size()};
  return sendAll(socket, &header, sizeof(header)) && sendAll(socket, json.data(), json.size()) &&
         sendAll(socket, message.bytes.data(), message.bytes.size());
}

Received kernelforge::receiveMessage(int socket, Message &message, double seconds) {
  const bool forEver = seconds < 0;
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                           std::chrono::duration<double>(forEver ? 0.0 : seconds));
  Header header{};
  Received got = receiveAll(socket, &header, sizeof(header), deadline, forEver);
  if (got != Received::Message)
    return got;
  if (header.jsonBytes > mostBytes || header.otherBytes > mostBytes)
    return Received::Broken;
  std::string json(header.jsonBytes, '\0');
  message.bytes.resize(header.otherBytes);
  if ((got = receiveAll(socket, json.data(), json.size(), deadline, forEver)) != Received::Message)
    return got;
  if ((got = receiveAll(socket, message.bytes.data(), message.bytes.size(), deadline, forEver)) !=
      Received::Message)
    return got;
  message.json = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  return message.json.is_object() ? Received::Message : Received::Broken;
}

Message kernelforge::programMessage(const Program &program) {
  Message message;
  message.json = programJson(program, message.bytes);
  return message;
}
