#include "kernelforge/autotune/Messages.h"

#include "kernelforge/backend/ProgramJson.h"
#include "kernelforge/compiler/HostMatmul.h"
#include "kernelforge/kernels/MatmulRegistry.h"

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

static Json argumentJson(const std::optional<unsigned> &argument) {
  return argument ? Json(*argument) : Json();
}

static std::optional<unsigned> argumentFrom(const Json &json) {
  return json.is_null() ? std::nullopt : std::optional(json.get<unsigned>());
}

Message kernelforge::variantMessage(const Program &program, const LibraryProblem &library) {
  Message message = programMessage(program);
  const MatmulProblem &problem = library.problem;
  message.json["variant"] = {{"name", program.artifacts.front().variant},
                             {"m", problem.m},
                             {"n", problem.n},
                             {"k", problem.k},
                             {"weights", static_cast<int>(problem.weights)},
                             {"transpose", problem.transpose},
                             {"epilogue", epilogueText(problem.epilogue)},
                             {"rows_size", library.rowsSize},
                             {"input", library.input},
                             {"weight", library.weight},
                             {"bias", argumentJson(library.bias)},
                             {"residual", argumentJson(library.residual)},
                             {"sizes", library.sizes},
                             {"arguments", library.arguments}};
  return message;
}

Expected<Program> kernelforge::variantProgramFrom(const Message &message) {
  const Json &json = message.json["variant"];
  LibraryProblem library;
  MatmulProblem &problem = library.problem;
  problem = {json["m"], json["n"], json["k"], static_cast<ElementType>(json["weights"].get<int>()),
             json["transpose"].get<bool>()};
  KF_TRY(problem.epilogue, parseEpilogue(json["epilogue"].get<std::string>()));
  library.rowsSize = json["rows_size"];
  library.input = json["input"];
  library.weight = json["weight"];
  library.bias = argumentFrom(json["bias"]);
  library.residual = argumentFrom(json["residual"]);
  library.sizes = json["sizes"];
  library.arguments = json["arguments"];
  KF_TRY(const MatmulKernel *variant,
         MatmulRegistry::global().find(json["name"].get<std::string>()));
  KF_TRY(Program program, programFrom(message.json, message.bytes));
  program.artifacts.front().host = makeHostMatmul(library, *variant, "");
  return program;
}
