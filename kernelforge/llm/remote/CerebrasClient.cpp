#include "kernelforge/llm/remote/CerebrasClient.h"

#include "kernelforge/llm/remote/RetryPolicy.h"
#include "kernelforge/llm/remote/SseParser.h"
#include "kernelforge/support/CounterRandom.h"
#include "kernelforge/support/Log.h"

#include <algorithm>
#include <cstdlib>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace kernelforge {

using Clock = std::chrono::steady_clock;

/// Bodies of errors are short; more of one is not read.
static constexpr size_t mostErrorBytes = 1 << 20;

static double secondsFrom(Clock::time_point start, Clock::time_point end) {
  return std::chrono::duration<double>(end - start).count();
}

static std::string variable(const char *name) {
  const char *value = std::getenv(name);
  return value ? value : "";
}

Expected<CerebrasClient> CerebrasClient::fromEnvironment(CerebrasOptions options) {
  KF_TRY(ApiKey key, ApiKey::create(variable("CEREBRAS_API_KEY"), "CEREBRAS_API_KEY"));
  const std::string address = variable("CEREBRAS_BASE_URL");
  KF_TRY(ServerAddress server,
         ServerAddress::parse(address.empty() ? publicAddress : address, "CEREBRAS_BASE_URL"));
  return CerebrasClient(std::move(key), std::move(server), std::move(options));
}

HttpRequest CerebrasClient::requestTo(const char *method, const char *path) const {
  return {method, path, {{"Authorization", key.bearer()}, {"User-Agent", "KernelForgeML"}}, ""};
}

/// One try of a request, as far as it came.
struct CerebrasClient::Try {
  std::optional<Error> error;
  std::optional<HttpHead> head;
  std::string body; ///< where it is no stream
  Completion completion;
  bool hasBegun = false; ///< there was text of an answer: it is not tried again
  std::optional<double> firstTokenSeconds, totalSeconds;

  /// Whether another try may help.
  bool mayRetry() const {
    if (!error || hasBegun || error->kind == ErrorKind::Interrupted)
      return false;
    return head ? head->status != 200 && asksForRetry(*head) : error->what != serverNotTrusted;
  }
};

/// Whether the head of an answer says that its body is of this type.
static bool isOfType(const HttpHead &head, std::string_view type) {
  const std::string *value = head.find("content-type");
  auto equal = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? char(a | 0x20) : a) == b; };
  return value && value->size() >= type.size() &&
         std::equal(value->begin(), value->begin() + static_cast<ptrdiff_t>(type.size()),
                    type.begin(), equal);
}

CerebrasClient::Try CerebrasClient::attempt(const HttpRequest &request, bool stream,
                                            const HttpLimits &limits) const {
  Try made;
  const std::string where = server.origin();
  CompletionReader reader(where);
  SseParser events(where);
  bool isStream = false, isReadable = true;
  const auto start = Clock::now();
  auto takeHead = [&](const HttpHead &head) -> Status {
    made.head = head;
    if (head.status != 200)
      return {};
    if (const std::string *encoding = head.find("content-encoding");
        encoding && *encoding != "identity" && !encoding->empty())
      return failed("answer is not usable", where,
                    "it is compressed, which was not asked for: " + *encoding);
    isStream = stream && !isOfType(head, "application/json");
    if (isStream && head.find("content-type") && !isOfType(head, "text/event-stream"))
      return failed("answer is not usable", where, "it is neither a stream of events nor JSON",
                    "check the address");
    return {};
  };
  auto takeEvent = [&](const SseEvent &event, Clock::time_point arrived) -> Status {
    if (reader.isClosed())
      return {};
    KF_CHECK(reader.readEvent(event));
    if (reader.hasBegun() && !made.firstTokenSeconds)
      made.firstTokenSeconds = secondsFrom(start, arrived);
    if (reader.isDone() && !made.totalSeconds)
      made.totalSeconds = secondsFrom(start, arrived);
    return {};
  };
  auto takeBody = [&](std::string_view bytes, Clock::time_point arrived) -> Expected<Want> {
    if (!isStream) {
      made.body += bytes;
      const bool isError = made.head->status != 200;
      return isError && made.body.size() >= mostErrorBytes ? Want::Nothing : Want::More;
    }
    isReadable = false;
    KF_CHECK(events.feed(bytes, [&](const SseEvent &event) { return takeEvent(event, arrived); }));
    isReadable = true;
    return reader.isClosed() ? Want::Nothing : reader.isDone() ? Want::LastWords : Want::More;
  };
  Status status = exchange(server, request, limits, takeHead, takeBody, options.cancel);
  const auto now = Clock::now();
  const bool isStopped = !status && status.error().kind == ErrorKind::Interrupted;
  if (!isStopped && made.head && made.head->status != 200) {
    // What the server said of it counts, also where it broke off.
    status = tl::unexpected<Error>(errorOfStatus(made.head->status, made.body, where));
  } else if (isStream && isReadable && !isStopped && reader.isDone()) {
    status = {}; // the rest of a stream that said why it ends is not important
  } else if (status && isStream) {
    isReadable = false;
    status = events.finish([&](const SseEvent &event) { return takeEvent(event, now); });
    if (status)
      status = reader.finish();
  } else if (status && stream) {
    status = reader.readBody(made.body);
  }
  if (!made.totalSeconds)
    made.totalSeconds = secondsFrom(start, now);
  made.completion = reader.completion();
  made.hasBegun = reader.hasBegun();
  if (!status) {
    made.error = status.error();
    made.totalSeconds.reset();
  }
  return made;
}

/// Waits; Interrupted where the user does not want to.
Status CerebrasClient::pause(double seconds) const {
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (Clock::now() < end) {
    if (options.cancel && *options.cancel)
      return makeError(ErrorKind::Interrupted, "interrupted", server.origin(), "stopped by user");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return {};
}

CerebrasClient::Try CerebrasClient::attemptWithRetries(const HttpRequest &request, bool stream,
                                                       RemoteResult &result) const {
  // What is random here must not be the same in all clients, and need not be repeatable.
  const auto seed = static_cast<uint64_t>(Clock::now().time_since_epoch().count());
  for (int retry = 0;; ++retry) {
    logger().debug("{} {}{}, try {}", request.method, address(), request.path, retry + 1);
    Try made = attempt(request, stream, options.limits);
    ++result.tries;
    if (retry >= options.retries || !made.mayRetry())
      return made;
    const std::optional<double> asked =
        made.head ? requestedWait(*made.head, std::time(nullptr)) : std::nullopt;
    if (asked && *asked > longestRetryWait) {
      made.error->hint = fmt::format("the server asks to wait for {:.0f} s", std::min(*asked, 1e9));
      return made;
    }
    const double wait =
        asked.value_or(backOff(retry, randomUniform(seed, static_cast<uint64_t>(retry))));
    logger().info("{}; trying again in {:.2f} s", key.redact(made.error->line()), wait);
    result.waitedSeconds += wait;
    if (Status paused = pause(wait); !paused) {
      made.error = paused.error();
      return made;
    }
  }
}

/// An error as it may be shown. What a server sends is no input of the user's.
void CerebrasClient::clean(Error &error) const {
  if (error.kind == ErrorKind::Unusable)
    error.kind = ErrorKind::Failed;
  for (std::string *text : {&error.what, &error.where, &error.why, &error.hint})
    *text = key.redact(*text);
}

RemoteResult CerebrasClient::complete(const CompletionRequest &asked) const {
  RemoteResult result;
  HttpRequest request = requestTo("POST", "/v1/chat/completions");
  const Json body = toJson(asked);
  request.body = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  Try made = attemptWithRetries(request, asked.stream, result);
  if (!asked.stream && !made.error) {
    CompletionReader reader(server.origin());
    if (Status read = reader.readBody(made.body); !read)
      made.error = read.error();
    made.completion = reader.completion();
    if (made.error)
      made.totalSeconds.reset();
  }
  result.error = std::move(made.error);
  result.completion = std::move(made.completion);
  result.firstTokenSeconds = made.firstTokenSeconds;
  result.totalSeconds = made.totalSeconds;
  if (made.head) {
    for (const char *name : {"x-request-id", "inference-id", "cf-ray"})
      if (const std::string *id = made.head->find(name); id && result.requestId.empty())
        result.requestId = key.redact(*id);
    constexpr std::string_view prefix = "x-ratelimit-";
    for (const HttpHeader &header : made.head->headers)
      if (header.name.starts_with(prefix))
        result.rateLimits[key.redact(header.name.substr(prefix.size()))] = key.redact(header.value);
  }
  Completion &c = result.completion;
  for (std::string *text :
       {&c.id, &c.model, &c.fingerprint, &c.text, &c.reasoning, &c.finishReason})
    *text = key.redact(*text);
  if (c.model.empty())
    c.model = key.redact(asked.model);
  if (result.error) {
    if (!result.requestId.empty())
      result.error->where += ", request " + result.requestId;
    if (made.head && made.head->status == 404 &&
        result.error->why.find("model_not_found") != std::string::npos)
      nameModels(*result.error);
    clean(*result.error);
  }
  return result;
}

/// Says in the hint which models there are, where the server tells soon.
void CerebrasClient::nameModels(Error &error) const {
  constexpr size_t most = 10;
  auto known = models();
  if (!known && known.error().kind == ErrorKind::Interrupted)
    error = known.error();
  if (!known || known->empty())
    return;
  const bool all = known->size() <= most;
  known->resize(std::min(known->size(), most));
  error.hint = fmt::format("the account has {}{}", fmt::join(*known, ", "), all ? "" : ", ...");
}

Expected<std::vector<std::string>> CerebrasClient::models() const {
  HttpLimits limits = options.limits;
  limits.totalSeconds = std::min(limits.totalSeconds, 5.0);
  limits.mostBytes = std::min<uint64_t>(limits.mostBytes, mostErrorBytes);
  Try made = attempt(requestTo("GET", "/v1/models"), false, limits);
  auto read = [&]() -> Expected<std::vector<std::string>> {
    if (made.error)
      return tl::unexpected<Error>(*made.error);
    KF_TRY(JsonDocument document,
           parseJson(made.body, "list of models is not usable", server.origin(), configJsonLimits));
    KF_TRY(auto entries, document.root().array("data", 1000));
    std::vector<std::string> names;
    for (const JsonView &entry : entries) {
      KF_TRY(std::string name, entry.string("id", 256));
      names.push_back(key.redact(name));
    }
    return names;
  };
  auto names = read();
  if (!names)
    clean(names.error());
  return names;
}

} // namespace kernelforge
