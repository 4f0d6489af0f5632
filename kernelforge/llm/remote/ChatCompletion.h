// A chat completion as OpenAI's interface and its kin have it: the request, and the answer, in one
// piece or as a stream, with the errors that servers give.
#pragma once

#include "kernelforge/llm/ChatTemplate.h"
#include "kernelforge/llm/remote/SseParser.h"
#include "kernelforge/support/Json.h"

#include <optional>
#include <string>
#include <vector>

namespace kernelforge {

struct CompletionRequest {
  std::string model;
  std::vector<ChatMessage> messages;
  int64_t maxTokens = 128;
  std::optional<double> temperature, topP;
  std::optional<int64_t> seed;
  std::vector<std::string> stop;
  bool stream = true;
};

/// Seconds, by the server's own clock; nothing where it does not say.
struct ServerTimes {
  std::optional<double> queue, prompt, completion, total;
};

struct Completion {
  std::string id, model, fingerprint;
  std::string text;
  std::string reasoning; ///< text that precedes the answer, where the model shows it
  std::string finishReason;
  size_t toolCalls = 0;
  std::optional<int64_t> promptTokens, cachedTokens, completionTokens, reasoningTokens;
  ServerTimes times;
};

/// The body of a request.
Json toJson(const CompletionRequest &request);

/// Puts an answer together.
class CompletionReader {
public:
  explicit CompletionReader(std::string where) : where(std::move(where)) {}

  /// The whole answer. Unusable where it is none; the server's error where it holds one.
  Status readBody(const std::string &body);

  /// The next event of a stream, "[DONE]" included; one that only keeps the connection alive, empty
  /// or of another name, says nothing. Errors as above.
  Status readEvent(const SseEvent &event);

  /// The end of a stream. Failed where it came before an event that says why it ended.
  Status finish() const;

  const Completion &completion() const { return answer; }
  /// Whether text, reasoning or a call of a tool was there.
  bool hasBegun() const {
    return !answer.text.empty() || !answer.reasoning.empty() || answer.toolCalls > 0;
  }
  /// Whether the answer said why it ends; figures may still follow.
  bool isDone() const { return done; }
  /// Whether the stream said that nothing follows.
  bool isClosed() const { return closed; }

private:
  Status readChunk(const JsonView &chunk, std::string_view part);
  Status readUsage(const JsonView &chunk);

  std::string where;
  Completion answer;
  bool done = false, closed = false;
};

/// What a server says is wrong: in `message`, `error.message`, `error` or `detail` of a JSON
/// object, with its code; the beginning of the body where it is none of these. Empty where it says
/// nothing.
struct ServerMessage {
  std::string text, code;
};
ServerMessage readServerMessage(const std::string &body);

/// The error for an answer with a status other than 200. Failed.
Error errorOfStatus(int status, const std::string &body, const std::string &where);

} // namespace kernelforge
