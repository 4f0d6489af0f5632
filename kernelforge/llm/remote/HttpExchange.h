// One HTTP request and its answer, which is given out as it arrives: bounded in time and size, and
// stopped at once where the user says so. Over cpp-httplib and OpenSSL.
#pragma once

#include "kernelforge/llm/remote/ServerAddress.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kernelforge {

struct HttpHeader {
  std::string name, value; ///< the name in lower case
};

/// Status and headers of an answer.
struct HttpHead {
  int status = 0;
  std::vector<HttpHeader> headers;

  /// The first of that name (lower case); null where there is none.
  const std::string *find(std::string_view name) const;
};

struct HttpRequest {
  std::string method = "GET", path;
  std::vector<HttpHeader> headers;
  std::string body; ///< application/json where not empty
};

struct HttpLimits {
  double connectSeconds = 5;
  double idleSeconds = 30;       ///< without a byte of the answer
  double totalSeconds = 60;      ///< of all, connecting included
  uint64_t mostBytes = 16 << 20; ///< of the answer; a status line has 8 KiB, the headers 256 KiB
};

/// What more of a body is wanted.
enum class Want {
  More,
  LastWords, ///< what comes within two seconds
  Nothing
};

/// Gets bytes of the body, and when they were there.
using TakeBody = std::function<Expected<Want>(std::string_view bytes,
                                              std::chrono::steady_clock::time_point arrived)>;

/// What the error of a server whose certificate is refused begins with.
inline constexpr const char *serverNotTrusted = "server is not who it should be";

/// Sends the request and waits for the end of the answer. `takeHead` and `takeBody` are called on
/// this thread; their first error ends the exchange, and so does Want::Nothing. Certificates are
/// checked against the system's authorities (or SSL_CERT_FILE, SSL_CERT_DIR), redirects are not
/// followed, compressed answers not asked for. Errors, of which none shows a header or a body:
/// Failed where the server cannot be reached, is not who it should be, breaks off, or exceeds a
/// limit; Interrupted where `cancel` became true.
///
/// An exchange that is given up while the system looks for the host leaves a thread behind that
/// ends later, having sent nothing: see isThreadLeft().
Status exchange(const ServerAddress &server, const HttpRequest &request, const HttpLimits &limits,
                const std::function<Status(const HttpHead &)> &takeHead, const TakeBody &takeBody,
                const std::atomic<bool> *cancel);

/// Whether a thread of an exchange that was given up may still run. Then end the process by
/// _exit(): at exit(), OpenSSL is taken down under it.
bool isThreadLeft();

} // namespace kernelforge
