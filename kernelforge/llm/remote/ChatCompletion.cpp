#include "kernelforge/llm/remote/ChatCompletion.h"

#include <algorithm>

#include <fmt/format.h>

namespace kernelforge {

static constexpr uint64_t mostText = 64u << 20, mostName = 65'536;
static constexpr int64_t mostTokens = int64_t(1) << 40;
static constexpr double mostSeconds = 1e9;
static constexpr const char *purpose = "answer is not usable";

Json toJson(const CompletionRequest &request) {
  Json messages = Json::array();
  for (const ChatMessage &message : request.messages)
    messages.push_back({{"role", message.role}, {"content", message.content}});
  Json json = {{"model", request.model},
               {"messages", std::move(messages)},
               {"max_completion_tokens", request.maxTokens},
               {"stream", request.stream}};
  if (request.temperature)
    json["temperature"] = *request.temperature;
  if (request.topP)
    json["top_p"] = *request.topP;
  if (request.seed)
    json["seed"] = *request.seed;
  if (!request.stop.empty())
    json["stop"] = request.stop;
  if (request.stream)
    json["stream_options"] = {{"include_usage", true}};
  return json;
}

//===----------------------------------------------------------------------===//
// Answers
//===----------------------------------------------------------------------===//

static Status readCount(const JsonView &view, const char *field, std::optional<int64_t> &into) {
  if (view.has(field)) {
    KF_TRY(into, view.integer(field, 0, mostTokens));
  }
  return {};
}

static Status readSeconds(const JsonView &view, const char *field, std::optional<double> &into) {
  if (view.has(field)) {
    KF_TRY(double seconds, view.number(field, -mostSeconds, mostSeconds));
    if (seconds >= 0) // below is a clock that was set, and no reason to lose the answer
      into = seconds;
  }
  return {};
}

static Status readText(const JsonView &view, const char *field, uint64_t most, std::string &into) {
  if (view.has(field)) {
    KF_TRY(into, view.string(field, most));
  }
  return {};
}

Status CompletionReader::readUsage(const JsonView &chunk) {
  if (chunk.has("usage")) {
    KF_TRY(JsonView usage, chunk.object("usage"));
    KF_CHECK(readCount(usage, "prompt_tokens", answer.promptTokens));
    KF_CHECK(readCount(usage, "completion_tokens", answer.completionTokens));
    if (usage.has("prompt_tokens_details")) {
      KF_TRY(JsonView details, usage.object("prompt_tokens_details"));
      KF_CHECK(readCount(details, "cached_tokens", answer.cachedTokens));
    }
    if (usage.has("completion_tokens_details")) {
      KF_TRY(JsonView details, usage.object("completion_tokens_details"));
      KF_CHECK(readCount(details, "reasoning_tokens", answer.reasoningTokens));
    }
  }
  if (chunk.has("time_info")) {
    KF_TRY(JsonView times, chunk.object("time_info"));
    KF_CHECK(readSeconds(times, "queue_time", answer.times.queue));
    KF_CHECK(readSeconds(times, "prompt_time", answer.times.prompt));
    KF_CHECK(readSeconds(times, "completion_time", answer.times.completion));
    KF_CHECK(readSeconds(times, "total_time", answer.times.total));
  }
  return {};
}

/// A chunk of a stream, whose text is the "delta" of its choice, or a whole answer, with "message".
Status CompletionReader::readChunk(const JsonView &chunk, std::string_view part) {
  if (!chunk.isObject())
    return chunk.error("it is no object");
  if (chunk.has("error")) {
    int64_t status = 0; // the chunk's own, which the stream's status (200) is not
    KF_TRY(status, chunk.integerOr("status_code", 0, 999, 0));
    return tl::unexpected(errorOfStatus(static_cast<int>(status), chunk.value().dump(), where));
  }
  KF_CHECK(readText(chunk, "id", mostName, answer.id));
  KF_CHECK(readText(chunk, "model", mostName, answer.model));
  KF_CHECK(readText(chunk, "system_fingerprint", mostName, answer.fingerprint));
  KF_CHECK(readUsage(chunk));
  if (!chunk.has("choices"))
    return part == "delta" ? Status() : chunk.error("it has no choices");
  KF_TRY(auto choices, chunk.array("choices", 128));
  if (choices.empty())
    return part == "delta" ? Status() : chunk.error("it has no choices");
  const JsonView &choice = choices.front();
  if (!choice.isObject())
    return choice.error("it is no object");
  if (choice.has(part)) {
    KF_TRY(JsonView message, choice.object(part));
    std::string text, reasoning;
    KF_CHECK(readText(message, "content", mostText, text));
    KF_CHECK(readText(message, "reasoning", mostText, reasoning));
    answer.text += text;
    answer.reasoning += reasoning;
    if (message.has("tool_calls")) {
      KF_TRY(auto calls, message.array("tool_calls", 1024));
      answer.toolCalls += calls.size();
    }
  }
  if (choice.has("finish_reason")) {
    KF_TRY(answer.finishReason, choice.string("finish_reason", mostName));
    done = true;
  }
  return {};
}

Status CompletionReader::readBody(const std::string &body) {
  KF_TRY(JsonDocument document, parseJson(body, purpose, where));
  KF_CHECK(readChunk(document.root(), "message"));
  done = true;
  return {};
}

Status CompletionReader::readEvent(const SseEvent &event) {
  constexpr const char *blank = " \t\n";
  std::string data =
      event.data.substr(std::min(event.data.find_first_not_of(blank), event.data.size()));
  data.erase(data.find_last_not_of(blank) + 1);
  if (data.empty())
    return {};
  if (data == "[DONE]") {
    done = closed = true;
    return {};
  }
  const bool isNamed = !event.name.empty() && event.name != "message";
  if (isNamed && !data.starts_with('{')) {
    if (event.name == "error")
      return tl::unexpected(errorOfStatus(0, data, where));
    return {};
  }
  KF_TRY(JsonDocument document, parseJson(data, purpose, where));
  if (event.name == "error" && !document.root().has("error"))
    return tl::unexpected(errorOfStatus(0, data, where));
  return readChunk(document.root(), "delta");
}

Status CompletionReader::finish() const {
  if (!done)
    return failed("answer broke off", where, "its stream ended before it said why it ends",
                  "try again");
  return {};
}

//===----------------------------------------------------------------------===//
// Errors
//===----------------------------------------------------------------------===//

/// A text of reasonable length, cut between characters.
static std::string shortened(std::string text) {
  constexpr size_t most = 500;
  std::replace(text.begin(), text.end(), '\n', ' ');
  if (text.size() <= most)
    return text;
  size_t end = most;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80)
    --end;
  return text.substr(0, end) + " ...";
}

static std::string textField(const Json &json, const char *field) {
  const auto found = json.find(field);
  if (found == json.end() || found->is_null())
    return "";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

/// FastAPI's errors of validation are a list of objects with "msg" and "loc".
static std::string detailText(const Json &detail) {
  if (detail.is_string())
    return detail.get<std::string>();
  if (!detail.is_array())
    return detail.dump();
  std::string text;
  for (const Json &item : detail) {
    const bool known = item.is_object() && item.contains("msg") && item["msg"].is_string();
    text += (text.empty() ? "" : "; ") + (known ? item["msg"].get<std::string>() : item.dump());
  }
  return text;
}

ServerMessage readServerMessage(const std::string &body) {
  const auto document = parseJson(body, purpose, "error", configJsonLimits);
  if (!document || !document->value().is_object())
    return {shortened(body.substr(0, 2000)), ""};
  const Json &json = document->value();
  ServerMessage message;
  const auto error = json.find("error");
  const Json &holder = error != json.end() && error->is_object() ? *error : json;
  message.text = textField(holder, "message");
  message.code = textField(holder, "code");
  if (message.code.empty())
    message.code = textField(holder, "type");
  if (message.text.empty() && error != json.end() && error->is_string())
    message.text = error->get<std::string>();
  if (const auto detail = json.find("detail"); message.text.empty() && detail != json.end())
    message.text = detailText(*detail);
  if (message.text.empty())
    message.text = body;
  message.text = shortened(std::move(message.text));
  message.code = shortened(std::move(message.code));
  return message;
}

static const char *statusText(int status) {
  switch (status) {
  case 400:
    return "bad request";
  case 401:
    return "not authorised";
  case 402:
    return "payment required";
  case 403:
    return "forbidden";
  case 404:
    return "not found";
  case 408:
    return "request timed out";
  case 409:
    return "conflict";
  case 422:
    return "request is not valid";
  case 429:
    return "too many requests";
  case 500:
    return "error of the server";
  case 502:
  case 504:
    return "error of a gateway";
  case 503:
    return "not available";
  default:
    return status >= 300 && status < 400 ? "sent elsewhere, which is not followed" : "refused";
  }
}

static const char *hintFor(int status, const std::string &code) {
  if (status == 401 || status == 403)
    return "check the key";
  if (status == 402)
    return "check the account";
  if (status == 404)
    return code == "model_not_found" ? "name a model that the account has" : "check the address";
  if (status == 429 || status == 408 || status == 503)
    return "try again later";
  if (code == "context_length_exceeded")
    return "shorten the prompt or allow fewer tokens";
  return "";
}

Error errorOfStatus(int status, const std::string &body, const std::string &where) {
  const ServerMessage message = readServerMessage(body);
  std::string why =
      status > 0 ? fmt::format("{} {}", status, statusText(status)) : "it gave up half-way";
  if (!message.text.empty())
    why += ": " + message.text;
  if (!message.code.empty() && message.code != message.text)
    why += fmt::format(" ({})", message.code);
  return Error{ErrorKind::Failed, "server refused the request", where, std::move(why),
               hintFor(status, message.code)};
}

} // namespace kernelforge
