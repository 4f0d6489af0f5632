#include "kernelforge/llm/AddedTokens.h"

#include "kernelforge/support/Numbers.h"

#include <filesystem>
#include <fmt/format.h>

namespace kernelforge {

namespace fs = std::filesystem;

static constexpr std::string_view what = "tokenizer is not usable";

Status placeToken(const JsonView &view, int64_t id, std::string text, TokenType type,
                  TokenizerData &data) {
  if (static_cast<size_t>(id) >= data.tokens.size()) {
    data.tokens.resize(id + 1);
    data.types.resize(id + 1, TokenType::Unused);
  }
  const bool isGap = data.types[id] == TokenType::Unused && data.tokens[id].empty();
  if (!isGap && data.tokens[id] != text)
    return view.error(fmt::format("id {} is given to two tokens", id));
  data.tokens[id] = std::move(text);
  data.types[id] = type;
  return {};
}

Status addToken(const JsonView &token, int64_t id, TokenizerData &data) {
  KF_TRY(std::string text, token.string("content", TokenizerData::maxTokenBytes));
  KF_TRY(bool isWord, token.booleanOr("single_word", false));
  if (isWord)
    return token.error("single_word is not supported");
  AddedTokenRules rules;
  KF_TRY(rules.stripLeft, token.booleanOr("lstrip", false));
  KF_TRY(rules.stripRight, token.booleanOr("rstrip", false));
  KF_TRY(bool special, token.booleanOr("special", false));
  KF_TRY(rules.isLate, token.booleanOr("normalized", !special));
  rules.isApart = static_cast<size_t>(id) >= data.tokens.size() || data.tokens[id] != text;
  if (const auto before = data.added.find(static_cast<TokenId>(id)); before != data.added.end())
    rules.isApart = before->second.isApart; // it is listed twice
  KF_CHECK(placeToken(token, id, std::move(text),
                      special ? TokenType::Control : TokenType::UserDefined, data));
  data.added[static_cast<TokenId>(id)] = rules;
  return {};
}

Status addConfiguredTokens(const std::string &folder, TokenizerData &data) {
  std::error_code ignored;
  auto isFile = [&](const fs::path &path) { return fs::is_regular_file(path, ignored); };
  const auto unknown = data.pieces->unknown;
  const auto pieces = static_cast<int64_t>(data.tokens.size());
  if (const fs::path path = fs::path(folder) / "tokenizer_config.json"; isFile(path)) {
    KF_TRY(JsonDocument document, readJsonFile(path.string(), what, configJsonLimits));
    if (document.root().has("added_tokens_decoder")) {
      KF_TRY(JsonView list, document.root().object("added_tokens_decoder"));
      KF_TRY(auto tokens, list.members());
      for (const auto &[key, token] : tokens) {
        const auto id = parseInteger<int64_t>(key, 0, maxTokens - 1);
        if (!id)
          return token.error(fmt::format("its id {}", id.error()));
        KF_CHECK(addToken(token, *id, data));
        data.added[static_cast<TokenId>(*id)].isLate = false; // there is nothing to look in later
      }
      if (unknown)
        data.types[*unknown] = TokenType::Unknown;
      data.pieces->scores.resize(data.tokens.size());
      return {};
    }
  }
  if (const fs::path path = fs::path(folder) / "added_tokens.json"; isFile(path)) {
    KF_TRY(JsonDocument document, readJsonFile(path.string(), what, configJsonLimits));
    KF_TRY(auto tokens, document.root().members());
    for (const auto &[text, view] : tokens) {
      KF_TRY(const int64_t id, view.asInteger(0, maxTokens - 1));
      if (id >= pieces)
        return view.error("adds a token to tokenizer.model, but does not say of what kind it is",
                          "a tokenizer.json, or the added_tokens_decoder of tokenizer_config.json, "
                          "does");
    }
  }
  return {};
}

} // namespace kernelforge
