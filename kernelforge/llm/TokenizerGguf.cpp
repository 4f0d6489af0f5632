// The tokenizer's tables in GGUF metadata.
#include "kernelforge/llm/ModelConfig.h"

#include "kernelforge/llm/PreTokenizer.h"

#include "kernelforge/llm/architectures/ConfigFields.h"

#include <algorithm>
#include <fmt/format.h>

namespace kernelforge {

namespace {

/// A special id: nothing where it is absent or means none, else below the number of tokens.
Expected<std::optional<TokenId>> readTokenId(const GgufMetadata &metadata, std::string_view name,
                                             size_t tokens) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  if (const GgufEntry *entry = metadata.find(key)) {
    const auto *u = std::get_if<uint64_t>(&entry->value);
    const auto *i = std::get_if<int64_t>(&entry->value);
    if ((u && meansNoToken(static_cast<int64_t>(*u))) || (i && meansNoToken(*i)))
      return std::nullopt;
  }
  KF_TRY(auto id, metadata.integer(key, 0, static_cast<int64_t>(tokens) - 1));
  return id ? std::optional(static_cast<TokenId>(*id)) : std::nullopt;
}

Expected<SpecialTokens> readSpecialTokens(const GgufMetadata &metadata, size_t tokens) {
  SpecialTokens special;
  KF_TRY(special.bos, readTokenId(metadata, "bos", tokens));
  KF_TRY(special.eos, readTokenId(metadata, "eos", tokens));
  KF_TRY(auto endOfTurn, readTokenId(metadata, "eot", tokens));
  KF_TRY(auto endOfMessage, readTokenId(metadata, "eom", tokens));
  for (auto id : {special.eos, endOfTurn, endOfMessage})
    if (id && std::find(special.endOfGeneration.begin(), special.endOfGeneration.end(), *id) ==
                  special.endOfGeneration.end())
      special.endOfGeneration.push_back(*id);
  return special;
}

} // namespace

Expected<std::optional<TokenizerData>> tokenizerFromGguf(const GgufMetadata &metadata,
                                                         const std::string &where) {
  TokenizerData data;
  data.where = where;
  KF_TRY(auto model, metadata.string("tokenizer.ggml.model", maxNameBytes));
  if (model ? *model == "no_vocab" || *model == "none" : !metadata.find("tokenizer.ggml.tokens"))
    return std::nullopt;
  if (!model)
    return metadata.error("tokenizer.ggml.model", "is missing");
  data.model = *model;
  if (!data.isByteLevel())
    return data; // refused by its name where a tokenizer is needed: nothing else of it matters
  KF_TRY(auto tokens, metadata.strings("tokenizer.ggml.tokens", TokenizerData::maxTokenBytes));
  if (!tokens || tokens->empty())
    return metadata.error("tokenizer.ggml.tokens", tokens ? "is empty" : "is missing");
  data.tokens = std::move(*tokens);
  const size_t count = data.tokens.size();
  if (count > static_cast<size_t>(modelLimits::vocabulary))
    return metadata.error(
        "tokenizer.ggml.tokens",
        fmt::format("has {} elements, at most {} are allowed", count, modelLimits::vocabulary));
  KF_TRY(auto pre, metadata.string("tokenizer.ggml.pre", maxNameBytes));
  data.pre = pre.value_or("");

  data.types.assign(count, TokenType::Normal);
  constexpr std::string_view typeKey = "tokenizer.ggml.token_type";
  KF_TRY(auto types, metadata.integers(typeKey, 1, 6));
  if (types) {
    if (types->size() != count)
      return metadata.error(
          typeKey, fmt::format("has {} elements, there are {} tokens", types->size(), count));
    std::transform(types->begin(), types->end(), data.types.begin(),
                   [](int64_t type) { return static_cast<TokenType>(type); });
  }
  KF_TRY(auto merges, metadata.strings("tokenizer.ggml.merges", 2 * TokenizerData::maxTokenBytes));
  data.merges = std::move(merges).value_or(std::vector<std::string>{});

  KF_TRY(data.special, readSpecialTokens(metadata, count));
  KF_TRY(auto addBos, metadata.boolean("tokenizer.ggml.add_bos_token"));
  const auto pieces = PreTokenizer::byName(data.pre, where); // an unknown one is refused later
  const bool usual = pieces && (*pieces)->addsBos() && data.special.bos;
  data.addBos = addBos.value_or(usual);
  constexpr std::string_view bosKey = "tokenizer.ggml.bos_token_id";
  if (data.addBos && !data.special.bos)
    return metadata.error(bosKey, fmt::format("{}, but add_bos_token asks for it",
                                              metadata.find(bosKey) ? "means none" : "is missing"));
  return data;
}

} // namespace kernelforge
