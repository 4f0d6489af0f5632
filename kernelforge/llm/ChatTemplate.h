// A model's chat template: messages to the text of a prompt, with a mark on what users wrote.
#pragma once

#include "kernelforge/llm/Tokenizer.h"
#include "kernelforge/support/Error.h"

#include <ctime>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

struct ChatMessage {
  std::string role; ///< "system", "user", "assistant", "tool"; anything else counts as user text
  std::string content;
};

struct ChatInput {
  std::vector<ChatMessage> messages;
  bool addGenerationPrompt = true;
  std::string bosToken; ///< text of the token, "" where the model has none
  std::string eosToken;
  /// What strftime_now() formats; the template has no such function where this is not set.
  std::optional<std::tm> now;
};

/// The rendered prompt. Segments in order; those from users never hold control tokens.
struct ChatPrompt {
  std::vector<TextSegment> segments;
  std::string text() const;
};

namespace chat {
struct Template;
}

class ChatTemplate {
public:
  /// Parses a template (the subset that template/README.md states). Errors carry line and column.
  static Expected<ChatTemplate> parse(std::string_view text, std::string_view where = "");

  /// Renders messages. Errors: what the template raises, an operation that its values do not
  /// support, or a limit (steps, depth, output), each with line and column.
  Expected<ChatPrompt> render(const ChatInput &input) const;

private:
  std::shared_ptr<const chat::Template> parsed;
  std::string where;
};

/// Parses and renders at once, marks left out.
Expected<std::string> renderChat(std::string_view templateText, const ChatInput &input);

/// The ids of a rendered prompt. The template writes BOS itself where it wants one; where the model
/// wants BOS and the prompt does not begin with it, it is added: never twice.
Expected<std::vector<TokenId>> encodeChat(const Tokenizer &tokenizer, const ChatPrompt &prompt);

} // namespace kernelforge
