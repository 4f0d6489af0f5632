// What the tuner and its workers say to each other: JSON with bytes behind it, over a socket.
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/support/Json.h"

#include <string>

namespace kernelforge {

/// One message: a JSON object, then any bytes (code).
struct Message {
  Json json;
  std::string bytes;
};

/// What became of waiting for a message.
enum class Received {
  Message,
  Closed,   ///< the other side is gone
  TimedOut, ///< nothing, or not all of it, came in time
  Broken,   ///< what came is no message
};

/// Sends a whole message; false where the other side is gone.
bool sendMessage(int socket, const Message &message);

/// Waits up to `seconds` (negative: for ever) for a whole message.
Received receiveMessage(int socket, Message &message, double seconds);

/// A program as message, its code as the message's bytes: programFrom() of both is the way back.
Message programMessage(const Program &program);

} // namespace kernelforge
