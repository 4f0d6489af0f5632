#include "kernelforge/llm/remote/HttpExchange.h"

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <httplib.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace kernelforge {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

const std::string *HttpHead::find(std::string_view name) const {
  const auto header = std::ranges::find(headers, name, &HttpHeader::name);
  return header == headers.end() ? nullptr : &header->value;
}

static constexpr size_t mostStatusLine = 8 << 10, mostHead = 256 << 10;

/// How long what follows the end of an answer is waited for.
static constexpr double lastWordsSeconds = 2;

static std::atomic<int> threadsLeft = 0;

bool isThreadLeft() { return threadsLeft > 0; }

namespace {

/// A descriptor of one's own.
class Descriptor {
public:
  ~Descriptor() { reset(-1); }
  void reset(int other) {
    if (descriptor >= 0)
      ::close(descriptor);
    descriptor = other;
  }
  int get() const { return descriptor; }

private:
  int descriptor = -1;
};

/// What the thread that talks to the server and the one that waits for it share.
struct Conversation {
  HttpLimits limits;
  httplib::Request request;
  std::atomic<bool> givenUp{false};

  std::mutex mutex;
  std::condition_variable changed;
  Descriptor socket; ///< a copy, to shut it down from the other thread
  std::optional<HttpHead> head;
  std::deque<std::pair<std::string, Clock::time_point>> pieces;
  bool over = false, tooLarge = false;
  std::optional<httplib::Error> error;
  long verification = X509_V_OK;

  void giveUp() {
    const std::lock_guard lock(mutex);
    givenUp = true;
    if (socket.get() >= 0)
      ::shutdown(socket.get(), SHUT_RDWR); // connecting or connected
  }
};

/// The connection as cpp-httplib reads and writes it: within the limits, and not any more when the
/// conversation is given up. (The library itself reads lines of any length, and matches them by
/// regular expressions whose depth grows with them.)
class BoundedStream : public httplib::Stream {
public:
  BoundedStream(Conversation &conversation, socket_t descriptor, SSL *ssl)
      : c(conversation), descriptor(descriptor), ssl(ssl) {}

  bool is_readable() const override { return begin < end || wait(POLLIN); }
  bool is_writable() const override { return wait(POLLOUT); }
  socket_t socket() const override { return descriptor; }
  void get_remote_ip_and_port(std::string &, int &) const override {}
  void get_local_ip_and_port(std::string &, int &) const override {}

  ssize_t read(char *into, size_t size) override {
    if (begin == end) {
      const ssize_t count = receive();
      if (count <= 0)
        return count;
      begin = 0;
      end = static_cast<size_t>(count);
    }
    const size_t count = std::min(size, end - begin);
    if (!mayTake(count))
      return -1;
    std::memcpy(into, buffer + begin, count);
    begin += count;
    return static_cast<ssize_t>(count);
  }

  ssize_t write(const char *data, size_t size) override {
    while (!c.givenUp && wait(POLLOUT)) {
      if (!ssl)
        return ::send(descriptor, data, size, MSG_NOSIGNAL);
      const int count = SSL_write(ssl, data, static_cast<int>(std::min<size_t>(size, INT_MAX)));
      if (count > 0 || !again(count))
        return count > 0 ? count : -1;
    }
    return -1;
  }

private:
  /// Whether this many more bytes are within the limits.
  bool mayTake(size_t count) {
    taken += count;
    const std::lock_guard lock(c.mutex);
    const uint64_t most = c.head ? c.limits.mostBytes : inHeaders ? mostHead : mostStatusLine;
    inHeaders |= std::memchr(buffer + begin, '\n', count) != nullptr;
    c.tooLarge |= taken > std::min(most, c.limits.mostBytes);
    return !c.tooLarge;
  }

  bool wait(short events) const {
    if (events == POLLIN && ssl && SSL_pending(ssl) > 0)
      return true;
    pollfd poll = {descriptor, events, 0};
    int ready = 0;
    do
      ready = ::poll(&poll, 1, static_cast<int>(c.limits.idleSeconds * 1000));
    while (ready < 0 && errno == EINTR && !c.givenUp);
    return ready > 0 && !c.givenUp;
  }

  bool again(int result) const {
    const int error = SSL_get_error(ssl, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
  }

  ssize_t receive() {
    while (wait(POLLIN)) {
      if (!ssl)
        return ::recv(descriptor, buffer, sizeof(buffer), 0);
      const int count = SSL_read(ssl, buffer, sizeof(buffer));
      if (count > 0)
        return count;
      if (!again(count))
        return SSL_get_error(ssl, count) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
    }
    return -1;
  }

  Conversation &c;
  socket_t descriptor;
  SSL *ssl; ///< null where it is plain
  char buffer[16 << 10];
  size_t begin = 0, end = 0;
  uint64_t taken = 0;
  bool inHeaders = false; ///< the status line is over
};

/// A client of the library, with or without TLS, over BoundedStream.
template <typename Base> class BoundedClient : public Base {
public:
  BoundedClient(const ServerAddress &server, Conversation &conversation)
      : Base(server.host, server.port), conversation(conversation) {}

private:
  bool process_socket(const typename Base::Socket &socket,
                      std::function<bool(httplib::Stream &)> callback) override {
    BoundedStream stream(conversation, socket.sock, socket.ssl);
    return !conversation.givenUp && callback(stream);
  }

  Conversation &conversation;
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
  auto shared = std::make_shared<Conversation>();
  Conversation &c = *shared;
  c.limits = limits;
  c.request.method = request.method;
  c.request.path = server.prefix + request.path;
  for (const HttpHeader &header : request.headers)
    c.request.headers.emplace(header.name, header.value);
  c.request.headers.emplace("Accept-Encoding", "identity");
  if (!request.body.empty())
    c.request.headers.emplace("Content-Type", "application/json");
  c.request.body = request.body;
  c.request.response_handler = [&c](const httplib::Response &response) {
    const std::lock_guard lock(c.mutex);
    c.head = headOf(response);
    c.changed.notify_one();
    return !c.givenUp;
  };
  c.request.content_receiver = [&c](const char *data, size_t size, uint64_t, uint64_t) {
    const std::lock_guard lock(c.mutex);
    c.pieces.emplace_back(std::string(data, size), Clock::now());
    c.changed.notify_one();
    return !c.givenUp;
  };
  return shared;
}

/// Sends the request over a client and keeps how it ended.
template <typename Client> static void converse(Client &client, Conversation &c) {
  auto microseconds = [](double seconds) {
    return std::chrono::microseconds(static_cast<int64_t>(seconds * 1e6));
  };
  client.set_connection_timeout(microseconds(c.limits.connectSeconds));
  client.set_read_timeout(microseconds(c.limits.idleSeconds));
  client.set_write_timeout(microseconds(c.limits.idleSeconds));
  client.set_decompress(false);
  client.set_follow_location(false);
  client.set_tcp_nodelay(true);
  client.set_socket_options([&c](socket_t socket) {
    const std::lock_guard lock(c.mutex);
    c.socket.reset(::fcntl(socket, F_DUPFD_CLOEXEC, 0));
  });
  httplib::Response response;
  httplib::Error error = httplib::Error::Success;
  const bool sent = client.send(c.request, response, error);
  const std::lock_guard lock(c.mutex);
  if (sent && !c.head) // of an answer that has no body by definition
    c.head = headOf(response);
  if (!sent)
    c.error = error == httplib::Error::Success ? httplib::Error::Unknown : error;
}

static void talk(const ServerAddress &server, const std::shared_ptr<Conversation> &shared) {
  // OpenSSL writes to sockets that may be closed by then; the signal goes to the thread that does.
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  Conversation &c = *shared;
  try {
    if (server.tls) {
      BoundedClient<httplib::SSLClient> client(server, c);
      client.enable_server_certificate_verification(true);
      converse(client, c);
      c.verification = client.get_openssl_verify_result();
    } else {
      BoundedClient<httplib::ClientImpl> client(server, c);
      converse(client, c);
    }
  } catch (const std::exception &) { // the library's: no memory, an expression that is too deep
    const std::lock_guard lock(c.mutex);
    c.error = httplib::Error::Unknown;
  }
  const std::lock_guard lock(c.mutex);
  c.over = true;
  c.changed.notify_one();
}

static Error connectionError(const Conversation &c, const std::string &where,
                             const HttpLimits &limits) {
  using E = httplib::Error;
  if (c.tooLarge)
    return Error{ErrorKind::Failed, "answer is not usable", where,
                 c.head ? fmt::format("it has more than {} bytes", limits.mostBytes)
                        : "its status line or its headers are too long",
                 ""};
  auto error = [&](std::string what, std::string why, std::string hint) {
    return Error{ErrorKind::Failed, std::move(what), where, std::move(why), std::move(hint)};
  };
  const char *network = "check the network and the address";
  switch (*c.error) {
  case E::Connection:
    return error("server cannot be reached", "no connection to it was made", network);
  case E::ConnectionTimeout:
    return error("server cannot be reached",
                 fmt::format("it did not take a connection in {:g} s", limits.connectSeconds),
                 network);
  case E::SSLConnection:
    return error("server cannot be reached",
                 fmt::format("no TLS connection to it was made in {:g} s", limits.connectSeconds),
                 network);
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

namespace {

/// The thread that talks: told to end, and joined where it does so soon.
class Talker {
public:
  Talker(const ServerAddress &server, std::shared_ptr<Conversation> conversation)
      : shared(std::move(conversation)),
        thread([server, shared = shared] { talk(server, shared); }) {}
  Talker(const Talker &) = delete;
  Talker &operator=(const Talker &) = delete;
  ~Talker() {
    shared->giveUp();
    std::unique_lock lock(shared->mutex);
    const bool over = shared->changed.wait_for(lock, std::chrono::milliseconds(500),
                                               [&] { return shared->over; });
    lock.unlock();
    if (over) {
      thread.join();
    } else {
      ++threadsLeft;
      thread.detach();
    }
  }

private:
  std::shared_ptr<Conversation> shared;
  std::thread thread;
};

} // namespace

Status exchange(const ServerAddress &server, const HttpRequest &request, const HttpLimits &limits,
                const std::function<Status(const HttpHead &)> &takeHead, const TakeBody &takeBody,
                const std::atomic<bool> *cancel) {
  const std::string where = server.origin();
  auto isStopped = [&] { return cancel && *cancel; };
  auto stopped = [&] {
    return makeError(ErrorKind::Interrupted, "interrupted", where, "stopped by user");
  };
  if (isStopped())
    return stopped();
  const std::shared_ptr<Conversation> shared = prepare(server, request, limits);
  Conversation &c = *shared;
  const auto start = Clock::now();
  std::optional<Clock::time_point> ended; // where the rest is not important
  const Talker talker(server, shared);
  for (bool hadHead = false;;) {
    std::unique_lock lock(c.mutex);
    c.changed.wait_for(lock, std::chrono::milliseconds(50),
                       [&] { return c.over || !c.pieces.empty() || (c.head && !hadHead); });
    const auto pieces = std::exchange(c.pieces, {});
    const bool over = c.over;
    const std::optional<HttpHead> head = hadHead ? std::nullopt : c.head;
    lock.unlock();
    if (isStopped())
      return stopped();
    if (head) {
      hadHead = true;
      KF_CHECK(takeHead(*head));
    }
    for (const auto &[piece, arrived] : pieces) {
      KF_TRY(Want want, takeBody(piece, arrived));
      if (want == Want::Nothing)
        return {};
      if (want == Want::LastWords && !ended)
        ended = Clock::now();
    }
    if (over && c.error)
      return tl::unexpected<Error>(connectionError(c, where, limits));
    if (over || (ended && Seconds(Clock::now() - *ended).count() > lastWordsSeconds))
      return {};
    if (Seconds(Clock::now() - start).count() > limits.totalSeconds)
      return failed("answer takes too long", where,
                    fmt::format("it was not there after {:g} s", limits.totalSeconds),
                    "allow more time, or ask for less");
  }
}

} // namespace kernelforge
