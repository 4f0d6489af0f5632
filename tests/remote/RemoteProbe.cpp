// Runs the client of a hosted model as the tests ask: one JSON object a line of standard input, one
// a line of standard output. Key and address are those of the environment.
//
//   {"model": M, "prompt": P, "stream": true, "retries": 2, "connect_s": 5, "idle_s": 30,
//    "total_s": 60, "most_bytes": N, "cancel_after_s": S, "list": false}
//
// answers {"error": {...} or null, "text", "reasoning", "finish", "tool_calls", "prompt_tokens",
// "completion_tokens", "server_s", "first_s", "total_s", "tries", "waited_s", "request_id",
// "rate_limits", "seconds", "thread_left"}; with "list", {"models": [...]}.

#include "kernelforge/llm/remote/CerebrasClient.h"
#include "kernelforge/support/Log.h"

#include <iostream>
#include <thread>

using namespace kernelforge;

namespace {

Json answer(const Json &asked) {
  std::atomic<bool> cancel = false;
  CerebrasOptions options;
  options.limits.connectSeconds = asked.value("connect_s", 5.0);
  options.limits.idleSeconds = asked.value("idle_s", 30.0);
  options.limits.totalSeconds = asked.value("total_s", 60.0);
  options.limits.mostBytes = asked.value("most_bytes", options.limits.mostBytes);
  options.retries = asked.value("retries", 0);
  options.cancel = &cancel;
  auto client = CerebrasClient::fromEnvironment(options);
  if (!client)
    return {{"error", errorJson(client.error())}};
  if (asked.value("list", false)) {
    auto models = client->models();
    return models ? Json{{"models", *models}} : Json{{"error", errorJson(models.error())}};
  }
  std::thread canceller;
  if (asked.contains("cancel_after_s"))
    canceller = std::thread([&, seconds = asked["cancel_after_s"].get<double>()] {
      std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
      cancel = true;
    });
  CompletionRequest request;
  request.model = asked.value("model", "");
  request.messages = {{"user", asked.value("prompt", "Hello")}};
  request.temperature = 0;
  request.topP = 0.9;
  request.seed = 7;
  request.stop = {"END"};
  request.stream = asked.value("stream", true);
  const auto start = std::chrono::steady_clock::now();
  const RemoteResult r = client->complete(request);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  if (canceller.joinable())
    canceller.join();
  const Completion &c = r.completion;
  return {{"error", r.error ? errorJson(*r.error) : Json()},
          {"line", r.error ? r.error->line() : ""},
          {"text", c.text},
          {"reasoning", c.reasoning},
          {"finish", c.finishReason},
          {"model", c.model},
          {"tool_calls", c.toolCalls},
          {"prompt_tokens", orNull(c.promptTokens)},
          {"completion_tokens", orNull(c.completionTokens)},
          {"cached_tokens", orNull(c.cachedTokens)},
          {"server_s", orNull(c.times.total)},
          {"first_s", orNull(r.firstTokenSeconds)},
          {"total_s", orNull(r.totalSeconds)},
          {"tries", r.tries},
          {"waited_s", r.waitedSeconds},
          {"request_id", r.requestId},
          {"rate_limits", r.rateLimits},
          {"seconds", took.count()},
          {"thread_left", isThreadLeft()}};
}

} // namespace

int main() {
  logToStandardError(spdlog::level::trace);
  for (std::string line; std::getline(std::cin, line);)
    std::cout << answer(Json::parse(line)).dump(-1, ' ', false, Json::error_handler_t::replace)
              << std::endl;
  return 0;
}
