#include "RemoteComparison.h"

#include "NumberOptions.h"

#include "kernelforge/support/Progress.h"

#include <cmath>
#include <ctime>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace kernelforge;
using namespace kernelforge::cli;

void cli::addRemoteOptions(CLI::App &command, RemoteChoice &choice) {
  CLI::Option *model = command.add_option(
      "--compare-cerebras", choice.model,
      "with --chat: ask this hosted model the same and show both (needs CEREBRAS_API_KEY)");
  addNumber(command, "--cerebras-timeout", choice.timeout, "seconds that it may take", 0.1, 3600)
      ->capture_default_str()
      ->needs(model);
  addInteger(command, "--cerebras-retries", choice.retries, "tries after the first", 0, 10)
      ->capture_default_str()
      ->needs(model);
  command.add_flag("--cerebras-no-stream", choice.noStream, "ask for the answer in one piece")
      ->needs(model);
}

Status cli::checkRemote(const RemoteChoice &choice, const GenerateOptions &options,
                        const std::string &command) {
  if (!choice.isWanted())
    return {};
  auto error = [&](std::string why, std::string hint) {
    return unusable("wrong usage", "kernelforge " + command, std::move(why), std::move(hint));
  };
  if (choice.model->empty())
    return error("--compare-cerebras names no model", "name one that the account has");
  if (options.sampling.temperature > mostRemoteTemperature)
    return error(fmt::format("the hosted model takes temperatures up to {}, not {}",
                             mostRemoteTemperature, options.sampling.temperature),
                 "lower --temperature");
  if (options.stop.size() > mostRemoteStops)
    return error(fmt::format("the hosted model takes {} stop strings, not {}", mostRemoteStops,
                             options.stop.size()),
                 "give fewer --stop");
  if (options.maxTokens < 1)
    return error("the hosted model generates one token at least", "raise -n");
  return {};
}

/// Settings that change what the local model says and that the request has no field for.
static std::vector<std::string> settingsNotSent(const GenerateOptions &options) {
  const SamplingOptions &sampling = options.sampling;
  std::vector<std::string> names;
  if (sampling.temperature > 0) {
    if (sampling.topK > 0)
      names.push_back(fmt::format("top_k {}", sampling.topK));
    if (sampling.minP > 0)
      names.push_back(fmt::format("min_p {:g}", sampling.minP));
    if (sampling.seed > static_cast<uint64_t>(INT64_MAX))
      names.push_back(fmt::format("seed {}", sampling.seed));
  }
  if (sampling.repeatPenalty != 1)
    names.push_back(fmt::format("repeat_penalty {:g}", sampling.repeatPenalty));
  if (options.ignoreEos)
    names.emplace_back("ignore_eos");
  return names;
}

/// A number as a user wrote it: 0.8, not 0.800000011920929 of its f32.
static double asWritten(float value) { return std::round(double(value) * 1e6) / 1e6; }

RemoteAnswer cli::askRemote(const RemoteChoice &choice, std::vector<ChatMessage> messages,
                            const GenerateOptions &options) {
  RemoteAnswer answer;
  answer.askedAt = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
  answer.notSent = settingsNotSent(options);
  CerebrasOptions how;
  how.limits.totalSeconds = choice.timeout;
  how.limits.idleSeconds = choice.timeout;
  how.limits.connectSeconds = std::min(how.limits.connectSeconds, choice.timeout);
  how.retries = choice.retries;
  how.cancel = interruptFlag();
  const auto client = CerebrasClient::fromEnvironment(how);
  if (!client) {
    answer.result.error = client.error();
    return answer;
  }
  CompletionRequest request;
  request.model = *choice.model;
  request.messages = std::move(messages);
  request.maxTokens = options.maxTokens;
  request.temperature = asWritten(options.sampling.temperature);
  request.topP = asWritten(options.sampling.topP);
  if (options.sampling.seed <= static_cast<uint64_t>(INT64_MAX))
    request.seed = static_cast<int64_t>(options.sampling.seed);
  request.stop = options.stop;
  request.stream = !choice.noStream;
  Progress progress("asking " + client->address(), 0);
  answer.result = client->complete(request);
  return answer;
}

//===----------------------------------------------------------------------===//
// Answers
//===----------------------------------------------------------------------===//

double cli::totalSeconds(const Generation &local) {
  return local.timings.timeToFirstToken + local.timings.decode;
}

static double rate(double tokens, double seconds) { return seconds > 0 ? tokens / seconds : 0; }

double cli::wallRate(const Generation &local) {
  return rate(static_cast<double>(local.ids.size()), totalSeconds(local));
}

/// Tokens a second of a hosted model, by the wall clock here and by the server's own.
static std::optional<double> remoteWallRate(const RemoteResult &remote) {
  if (!remote.completion.completionTokens || !remote.totalSeconds)
    return std::nullopt;
  return rate(static_cast<double>(*remote.completion.completionTokens), *remote.totalSeconds);
}

static std::optional<double> serverRate(const RemoteResult &remote) {
  const Completion &c = remote.completion;
  if (!c.completionTokens || !c.times.completion || *c.times.completion <= 0)
    return std::nullopt;
  return rate(static_cast<double>(*c.completionTokens), *c.times.completion);
}

Json cli::remoteJson(const RemoteChoice &choice, const RemoteAnswer &answer) {
  const RemoteResult &r = answer.result;
  const Completion &c = r.completion;
  Json json = {{"provider", "cerebras"},
               {"asked_at", answer.askedAt},
               {"model", c.model.empty() ? *choice.model : c.model},
               {"prompt_tokens", orNull(c.promptTokens)},
               {"cached_tokens", orNull(c.cachedTokens)},
               {"generated_tokens", orNull(c.completionTokens)},
               {"reasoning_tokens", orNull(c.reasoningTokens)},
               {"text", c.text},
               {"reasoning", c.reasoning},
               {"tool_calls", c.toolCalls},
               {"finish_reason", c.finishReason.empty() ? Json() : Json(c.finishReason)},
               {"timings",
                {{"time_to_first_token_s", orNull(r.firstTokenSeconds)},
                 {"total_s", orNull(r.totalSeconds)},
                 {"wall_tokens_per_s", orNull(remoteWallRate(r))},
                 {"server_tokens_per_s", orNull(serverRate(r))},
                 {"server_queue_s", orNull(c.times.queue)},
                 {"server_prompt_s", orNull(c.times.prompt)},
                 {"server_completion_s", orNull(c.times.completion)},
                 {"server_total_s", orNull(c.times.total)}}},
               {"tries", r.tries},
               {"waited_s", r.waitedSeconds},
               {"not_sent", answer.notSent},
               {"id", c.id},
               {"request_id", r.requestId},
               {"system_fingerprint", c.fingerprint},
               {"rate_limits", r.rateLimits}};
  if (r.error)
    json["error"] = errorJson(*r.error);
  return json;
}

static std::string cell(const std::string &text) {
  constexpr size_t most = 34;
  const std::string shown = escapeControls(text);
  if (shown.size() <= most)
    return shown;
  size_t end = most - 3;
  while (end > 0 && (static_cast<unsigned char>(shown[end]) & 0xC0) == 0x80) // within a character
    --end;
  return shown.substr(0, end) + "...";
}

static std::string cell(const std::optional<int64_t> &value) {
  return value ? fmt::format("{}", *value) : "-";
}

static std::string cell(const std::optional<double> &value, int digits) {
  return value ? fmt::format("{:.{}f}", *value, digits) : "-";
}

/// Text from elsewhere: its lines stay lines, other control characters are shown as such.
static std::string safeText(const std::string &text) {
  std::string safe;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    safe += escapeControls(text.substr(begin, end - begin));
    if (end < text.size())
      safe += '\n';
    begin = end + 1;
  }
  return safe;
}

void cli::printComparison(const std::string &localModel, const Generation &local,
                          const RemoteChoice &choice, const RemoteAnswer &answer) {
  const RemoteResult &r = answer.result;
  const Completion &c = r.completion;
  const std::string model = c.model.empty() ? *choice.model : c.model;
  print(fmt::format("\n--- Cerebras, {}, {}\n", escapeControls(model), answer.askedAt));
  if (!c.reasoning.empty())
    print(fmt::format("(reasoning) {}\n", safeText(c.reasoning)));
  print(fmt::format("{}\n\n", c.text.empty() ? "(no text)" : safeText(c.text)));
  auto row = [](std::string_view name, const std::string &here, const std::string &there) {
    print(fmt::format("{:<26} {:>34} {:>34}\n", name, here, there));
  };
  row("", "here", "Cerebras");
  row("model", cell(localModel), cell(model));
  row("prompt tokens", fmt::format("{}", local.promptTokens), cell(c.promptTokens));
  row("completion tokens", fmt::format("{}", local.ids.size()), cell(c.completionTokens));
  if (c.reasoningTokens)
    row("  of them reasoning", "-", cell(c.reasoningTokens));
  row("time to first token, s", cell(std::optional(local.timings.timeToFirstToken), 3),
      cell(r.firstTokenSeconds, 3));
  row("tokens/s, wall clock", cell(wallRate(local), 1), cell(remoteWallRate(r), 1));
  row("tokens/s, server's clock", "-", cell(serverRate(r), 1));
  row("queue, server's clock, s", "-", cell(c.times.queue, 4));
  row("total time, s", cell(totalSeconds(local), 3), cell(r.totalSeconds, 3));
  row("finish reason", std::string(name(local.finish)),
      r.error                  ? "error"
      : c.finishReason.empty() ? "-"
                               : cell(c.finishReason));
  if (!answer.notSent.empty())
    print(fmt::format("Not sent, since the server has no such settings: {}.\n",
                      fmt::join(answer.notSent, ", ")));
  if (r.tries > 1)
    print(fmt::format("Asked {} times, with {:.1f} s between; times are of the last.\n", r.tries,
                      r.waitedSeconds));
  if (r.error)
    print(fmt::format("Cerebras: {}\n", r.error->line()));
}
