#include "kernelforge/llm/ChatTemplate.h"

#include "kernelforge/llm/template/Template.h"
#include "kernelforge/support/Utf8.h"

namespace kernelforge {

namespace {

using chat::Text;
using chat::Value;

/// Roles that templates make control tokens of ("<|" + role + "|>"); others are the user's word.
bool isKnownRole(std::string_view role) {
  return role == "system" || role == "user" || role == "assistant" || role == "tool";
}

Value messageValue(const ChatMessage &message) {
  auto text = [](const std::string &bytes, bool fromUser) {
    return Value(Text(replaceInvalidUtf8(bytes), fromUser));
  };
  std::vector<std::pair<Value, Value>> entries;
  entries.emplace_back(Value(Text("role")), text(message.role, !isKnownRole(message.role)));
  entries.emplace_back(Value(Text("content")), text(message.content, true));
  return Value::mapping(std::move(entries), chat::Limits{}.valueDepth);
}

/// Cuts a text where its marks change.
std::vector<TextSegment> segmentsOf(const Text &text) {
  if (text.marks.empty())
    return text.size() ? std::vector<TextSegment>{{text.bytes, false}} : std::vector<TextSegment>{};
  std::vector<TextSegment> out;
  for (size_t begin = 0; begin < text.size();) {
    char mark = text.marks[begin];
    size_t end = std::min(text.marks.find(mark ? '\0' : '\1', begin), text.size());
    out.push_back({text.bytes.substr(begin, end - begin), mark != 0});
    begin = end;
  }
  return out;
}

} // namespace

std::string ChatPrompt::text() const {
  std::string out;
  for (const TextSegment &segment : segments)
    out += segment.text;
  return out;
}

Expected<ChatTemplate> ChatTemplate::parse(std::string_view text, std::string_view where) {
  ChatTemplate out;
  out.where = where;
  KF_TRY(out.parsed, chat::parseTemplate(text, where));
  return out;
}

Expected<ChatPrompt> ChatTemplate::render(const ChatInput &input) const {
  std::vector<Value> messages;
  for (const ChatMessage &message : input.messages)
    messages.push_back(messageValue(message));
  std::vector<std::pair<std::string, Value>> variables;
  variables.emplace_back("messages", Value::list(std::move(messages), chat::Limits{}.valueDepth));
  variables.emplace_back("add_generation_prompt", Value(input.addGenerationPrompt));
  variables.emplace_back("bos_token", Value(Text(replaceInvalidUtf8(input.bosToken))));
  variables.emplace_back("eos_token", Value(Text(replaceInvalidUtf8(input.eosToken))));
  // Templates ask for these and find none.
  variables.emplace_back("tools", Value());
  variables.emplace_back("documents", Value());
  KF_TRY(Text text, chat::renderTemplate(*parsed, std::move(variables), where, input.now));
  return ChatPrompt{segmentsOf(text)};
}

Expected<std::string> renderChat(std::string_view templateText, const ChatInput &input) {
  KF_TRY(ChatTemplate parsed, ChatTemplate::parse(templateText));
  KF_TRY(ChatPrompt prompt, parsed.render(input));
  return prompt.text();
}

Expected<std::vector<TokenId>> encodeChat(const Tokenizer &tokenizer, const ChatPrompt &prompt) {
  KF_TRY(std::vector<TokenId> ids, tokenizer.encodeSegments(prompt.segments));
  if (tokenizer.addBos() && (ids.empty() || ids.front() != *tokenizer.bos()))
    ids.insert(ids.begin(), *tokenizer.bos());
  return ids;
}

} // namespace kernelforge
