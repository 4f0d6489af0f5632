// Cerebras' hosted inference: chat completions over HTTPS, tried again where that can help.
#pragma once

#include "kernelforge/llm/remote/ApiKey.h"
#include "kernelforge/llm/remote/ChatCompletion.h"
#include "kernelforge/llm/remote/HttpExchange.h"

#include <map>

namespace kernelforge {

struct CerebrasOptions {
  HttpLimits limits;                         ///< of each try
  int retries = 2;                           ///< after the first try
  const std::atomic<bool> *cancel = nullptr; ///< where true: Interrupted
};

/// What came of a request. With an error, the text is what there was before it.
struct RemoteResult {
  std::optional<Error> error;
  Completion completion;
  int tries = 0;
  double waitedSeconds = 0; ///< between tries
  /// Of the try that answered, from its beginning (connecting included) to the first text, and to
  /// the end of the answer. Nothing where it did not get that far.
  std::optional<double> firstTokenSeconds, totalSeconds;
  std::string requestId;
  std::map<std::string, std::string> rateLimits; ///< headers x-ratelimit-*, without that
};

class CerebrasClient {
public:
  /// The address that is asked where CEREBRAS_BASE_URL names none.
  static constexpr const char *publicAddress = "https://api.cerebras.ai";

  /// With the key and the address of CEREBRAS_API_KEY and CEREBRAS_BASE_URL. Missing where there is
  /// no key; Unusable where one of them cannot be used.
  static Expected<CerebrasClient> fromEnvironment(CerebrasOptions options);

  CerebrasClient(ApiKey key, ServerAddress server, CerebrasOptions options)
      : key(std::move(key)), server(std::move(server)), options(std::move(options)) {}

  /// Asks for a completion. Tried again: connections that fail, and statuses that ask for it
  /// (asksForRetry), after the wait that the server asks for or backOff(); nothing once text was
  /// there. No text of the result, errors included, shows the key.
  RemoteResult complete(const CompletionRequest &request) const;

  /// Names of the models that the account has; asked once, for five seconds at most.
  Expected<std::vector<std::string>> models() const;

  /// "https://api.cerebras.ai:443"
  std::string address() const { return key.redact(server.origin()); }

private:
  struct Try;
  Try attempt(const HttpRequest &request, bool stream, const HttpLimits &limits) const;
  Try attemptWithRetries(const HttpRequest &request, bool stream, RemoteResult &result) const;
  HttpRequest requestTo(const char *method, const char *path) const;
  Status pause(double seconds) const;
  void clean(Error &error) const;
  void nameModels(Error &error) const;

  ApiKey key;
  ServerAddress server;
  CerebrasOptions options;
};

/// How temperature and stop strings are limited there: 0 to 1.5, and four.
inline constexpr double mostRemoteTemperature = 1.5;
inline constexpr size_t mostRemoteStops = 4;

} // namespace kernelforge
