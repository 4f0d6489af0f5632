#include "kernelforge/llm/remote/HttpExchange.h"

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <httplib.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>

namespace kernelforge {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

//===----------------------------------------------------------------------===//
// Addresses and headers
//===----------------------------------------------------------------------===//

std::string ServerAddress::origin() const {
  const bool v6 = host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", tls ? "https" : "http", v6 ? "[" : "", host, v6 ? "]" : "",
                     port);
}

/// Whether a host is this machine, by its name alone.
static bool isThisMachine(const std::string &host) {
  in_addr v4 = {};
  in6_addr v6 = {};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1)
    return ntohl(v4.s_addr) >> 24 == 127;
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1)
    return IN6_IS_ADDR_LOOPBACK(&v6);
  return host == "localhost";
}

Expected<ServerAddress> ServerAddress::parse(std::string_view text, const std::string &name) {
  auto refused = [&](std::string why) {
    return unusable("server address is not usable", name, std::move(why),
                    "give it as https://host, https://host:port or https://host/prefix");
  };
  ServerAddress address;
  if (text.starts_with("https://")) {
    text.remove_prefix(8);
  } else if (text.starts_with("http://")) {
    text.remove_prefix(7);
    address.tls = false;
    address.port = 80;
  } else {
    return refused("it begins neither with https:// nor with http://");
  }
  for (unsigned char c : text)
    if (c <= ' ' || c >= 0x7F || std::strchr("@?#\\\"<>", c))
      return refused("it has user information, a query, or a character that addresses do not have");
  const size_t slash = std::min(text.find('/'), text.size());
  address.prefix = text.substr(slash);
  while (address.prefix.ends_with('/'))
    address.prefix.pop_back();
  std::string_view host = text.substr(0, slash), port;
  bool hasPort = false;
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    if (end == std::string_view::npos)
      return refused("the bracket of its host does not close");
    const std::string_view rest = host.substr(end + 1);
    if (!rest.empty() && !rest.starts_with(':'))
      return refused("something other than a port follows its host");
    hasPort = !rest.empty();
    port = hasPort ? rest.substr(1) : rest;
    host = host.substr(1, end - 1);
  } else if (const size_t colon = host.find(':'); colon != std::string_view::npos) {
    hasPort = true;
    port = host.substr(colon + 1);
    host = host.substr(0, colon);
  }
  if (host.empty() || host.size() > 253)
    return refused("it has no host of 1 to 253 characters");
  address.host = host;
  if (hasPort) {
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
    if (error != std::errc() || end != port.data() + port.size() || address.port < 1 ||
        address.port > 65535)
      return refused("its port is none from 1 to 65535");
  }
  if (!address.tls && !isThisMachine(address.host))
    return refused("http:// would send the key in the open, and the host is not this machine");
  return address;
}

const std::string *HttpHead::find(std::string_view name) const {
  const auto header = std::ranges::find(headers, name, &HttpHeader::name);
  return header == headers.end() ? nullptr : &header->value;
}

//===----------------------------------------------------------------------===//
// The exchange
//===----------------------------------------------------------------------===//

namespace {

/// What the thread that talks to the server and the one that waits for it share. It outlives an
/// exchange that was given up while the system was still looking for the host.
struct Conversation {
  std::unique_ptr<httplib::Client> client;
  httplib::Request request;
  std::atomic<bool> givenUp{false};
  std::atomic<int> socket{-1};

  std::mutex mutex;
  std::condition_variable changed;
  std::optional<HttpHead> head;
  std::deque<std::pair<std::string, Clock::time_point>> pieces;
  bool over = false;
  httplib::Error error = httplib::Error::Success;
  long verification = X509_V_OK;
};

} // namespace

static HttpHead headOf(const httplib::Response &response) {
  HttpHead head{response.status, {}};
  for (const auto &[name, value] : response.headers) {
    std::string lower = name;
    std::ranges::transform(lower, lower.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? char(c | 0x20) : c; });
    head.headers.push_back({std::move(lower), value});
  }
  return head;
}

static std::shared_ptr<Conversation> prepare(const ServerAddress &server,
                                             const HttpRequest &request, const HttpLimits &limits) {
  // Otherwise it is taken down at exit, perhaps under a conversation that was given up.
  OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, nullptr);
  auto shared = std::make_shared<Conversation>();
  Conversation &c = *shared;
  c.client = std::make_unique<httplib::Client>(server.origin());
  auto microseconds = [](double seconds) {
    return std::chrono::microseconds(static_cast<int64_t>(seconds * 1e6));
  };
  c.client->set_connection_timeout(microseconds(limits.connectSeconds));
  c.client->set_read_timeout(microseconds(limits.idleSeconds));
  c.client->set_write_timeout(microseconds(limits.idleSeconds));
  c.client->set_decompress(false);
  c.client->set_follow_location(false);
  c.client->set_tcp_nodelay(true);
  c.client->set_socket_options([weak = std::weak_ptr(shared)](socket_t socket) {
    if (const auto conversation = weak.lock())
      conversation->socket = socket;
  });
  c.client->enable_server_certificate_verification(true);

  c.request.method = request.method;
  c.request.path = server.prefix + request.path;
  for (const HttpHeader &header : request.headers)
    c.request.headers.emplace(header.name, header.value);
  c.request.headers.emplace("Accept-Encoding", "identity");
  if (!request.body.empty())
    c.request.headers.emplace("Content-Type", "application/json");
  c.request.body = request.body;
  Conversation *inside = shared.get(); // alive for as long as the client calls
  c.request.response_handler = [inside](const httplib::Response &response) {
    const std::lock_guard lock(inside->mutex);
    inside->head = headOf(response);
    inside->changed.notify_one();
    return !inside->givenUp;
  };
  c.request.content_receiver = [inside](const char *data, size_t size, uint64_t, uint64_t) {
    const std::lock_guard lock(inside->mutex);
    inside->pieces.emplace_back(std::string(data, size), Clock::now());
    inside->changed.notify_one();
    return !inside->givenUp;
  };
  return shared;
}

static void talk(const std::shared_ptr<Conversation> &shared) {
  // OpenSSL writes to sockets that may be closed by then; the signal goes to the thread that does.
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  httplib::Response response;
  httplib::Error error = httplib::Error::Success;
  shared->client->send(shared->request, response, error);
  const std::lock_guard lock(shared->mutex);
  shared->error = error;
  shared->verification = shared->client->get_openssl_verify_result();
  shared->socket = -1;
  shared->over = true;
  shared->changed.notify_one();
}

/// What the kernel tells of a connection: what the C library's header knows of it, and the fields
/// that Linux 4.1 put behind them.
struct ConnectionInfo {
  tcp_info known;
  uint64_t pacingRate, mostPacingRate, bytesAcknowledged, bytesReceived;
};
static_assert(sizeof(tcp_info) == 104);

/// Bytes that came over the connection, of all kinds; 0 where the kernel does not say.
static uint64_t bytesReceived(int socket) {
  ConnectionInfo info = {};
  socklen_t size = sizeof(info);
  if (socket < 0 || getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
    return 0;
  return size == sizeof(info) ? info.bytesReceived : 0;
}

static Error connectionError(const Conversation &c, const std::string &where,
                             const HttpLimits &limits) {
  using E = httplib::Error;
  auto error = [&](std::string what, std::string why, std::string hint) {
    return Error{ErrorKind::Failed, std::move(what), where, std::move(why), std::move(hint)};
  };
  const char *network = "check the network and the address";
  switch (c.error) {
  case E::Connection:
    return error("server cannot be reached", "no connection to it was made", network);
  case E::ConnectionTimeout:
    return error("server cannot be reached",
                 fmt::format("it did not take a connection in {:g} s", limits.connectSeconds),
                 network);
  case E::SSLConnection:
    return error("server cannot be reached", "it does not speak TLS as it should", network);
  case E::SSLLoadingCerts:
    return error("server cannot be checked", "this system's certificates cannot be read",
                 "install the package ca-certificates");
  case E::SSLServerVerification:
    return error(serverNotTrusted,
                 c.verification == X509_V_OK ? std::string("its certificate is for another host")
                                             : X509_verify_cert_error_string(c.verification),
                 "check the address; a proxy that opens TLS needs its certificate installed");
  default:
    return error("answer broke off",
                 c.head ? "the connection ended, or nothing came for a while, before its end"
                        : "the connection ended, or nothing came for a while, before it began",
                 "try again");
  }
}

Status exchange(const ServerAddress &server, const HttpRequest &request, const HttpLimits &limits,
                const std::function<Status(const HttpHead &)> &takeHead, const TakeBody &takeBody,
                const std::atomic<bool> *cancel) {
  const std::shared_ptr<Conversation> shared = prepare(server, request, limits);
  Conversation &c = *shared;
  const auto start = Clock::now();
  const std::string where = server.origin();
  std::thread talker(talk, shared);
  auto wait = [&]() -> Status {
    bool hadHead = false;
    uint64_t bytes = 0;
    for (;;) {
      std::unique_lock lock(c.mutex);
      c.changed.wait_for(lock, std::chrono::milliseconds(50),
                         [&] { return c.over || !c.pieces.empty() || (c.head && !hadHead); });
      const auto pieces = std::exchange(c.pieces, {});
      const bool over = c.over;
      const std::optional<HttpHead> head = hadHead ? std::nullopt : c.head;
      lock.unlock();
      if (cancel && *cancel)
        return makeError(ErrorKind::Interrupted, "interrupted", where, "stopped by user");
      if (head) {
        hadHead = true;
        KF_CHECK(takeHead(*head));
      }
      for (const auto &[piece, arrived] : pieces) {
        bytes += piece.size();
        KF_TRY(bool more, takeBody(piece, arrived));
        if (!more)
          return {};
      }
      if (std::max(bytes, bytesReceived(c.socket)) > limits.mostBytes)
        return failed("answer is not usable", where,
                      fmt::format("it has more than {} bytes", limits.mostBytes));
      if (over && c.error != httplib::Error::Success)
        return tl::unexpected(connectionError(c, where, limits));
      if (over)
        return {};
      if (Seconds(Clock::now() - start).count() > limits.totalSeconds)
        return failed("answer takes too long", where,
                      fmt::format("it was not there after {:g} s", limits.totalSeconds),
                      "allow more time, or ask for less");
    }
  };
  const Status status = wait();
  // A conversation that was given up ends at once, unless the system is still looking for the host.
  c.givenUp = true;
  std::unique_lock lock(c.mutex);
  if (!c.over) {
    lock.unlock();
    c.client->stop();
    lock.lock();
    c.changed.wait_for(lock, std::chrono::milliseconds(500), [&] { return c.over; });
  }
  const bool over = c.over;
  lock.unlock();
  if (over)
    talker.join();
  else
    talker.detach();
  return status;
}

} // namespace kernelforge
