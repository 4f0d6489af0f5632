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

/// A table of bytes.
Expected<std::shared_ptr<const Charsmap>> readCharsmap(const GgufMetadata &metadata) {
  constexpr std::string_view key = "tokenizer.ggml.precompiled_charsmap";
  const GgufEntry *entry = metadata.find(key);
  if (!entry)
    return nullptr;
  const auto *array = std::get_if<GgufArray>(&entry->value);
  if (!array || (array->elementType != GgufType::U8 && array->elementType != GgufType::I8))
    return metadata.error(key, "must be an array of bytes");
  if (array->count == 0)
    return nullptr;
  auto map =
      Charsmap::read({reinterpret_cast<const char *>(array->bytes.data()), array->bytes.size()});
  if (!map)
    return metadata.error(key, map.error());
  return *map;
}

/// The id where the file says nothing: that of the usual order of tokens, if it is a control token.
void assumeControl(const GgufMetadata &metadata, std::string_view name, TokenId id,
                   const TokenizerData &data, std::optional<TokenId> &out) {
  if (!metadata.find(fmt::format("tokenizer.ggml.{}_token_id", name)) &&
      static_cast<size_t>(id) < data.types.size() && data.types[id] == TokenType::Control)
    out = id;
}

/// Phi-3's tokens take the white space behind them with them, all but three. A GGUF file has no
/// field for it; the models' tokenizer.json says so.
void stripBehind(TokenizerData &data) {
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    const std::string &text = data.tokens[id];
    const bool isAdded =
        data.types[id] == TokenType::Control || data.types[id] == TokenType::UserDefined;
    if (isAdded && text != "<s>" && text != "<unk>" && text != "<|endoftext|>")
      data.added[static_cast<TokenId>(id)].stripRight = true;
  }
}

/// What there is of SentencePiece's: scores, the unknown token, rules of its normalizer.
Status readPieces(const GgufMetadata &metadata, bool isUnigram, TokenizerData &data) {
  PieceRules rules;
  rules.algorithm =
      isUnigram ? PieceRules::Algorithm::Unigram : PieceRules::Algorithm::MergesByScore;
  rules.unknownText = defaultUnknownText;
  constexpr std::string_view scoresKey = "tokenizer.ggml.scores";
  KF_TRY(auto scores, metadata.numbers(scoresKey));
  const size_t count = data.tokens.size();
  if (!scores)
    return metadata.error(scoresKey, "is missing");
  if (scores->size() != count)
    return metadata.error(
        scoresKey, fmt::format("has {} elements, there are {} tokens", scores->size(), count));
  rules.scores = std::move(*scores);

  KF_TRY(rules.unknown, readTokenId(metadata, "unknown", count));
  if (const auto found = std::ranges::find(data.types, TokenType::Unknown);
      !rules.unknown && found != data.types.end())
    rules.unknown = static_cast<TokenId>(found - data.types.begin());
  const auto bytes = std::ranges::count(data.types, TokenType::Byte);
  rules.byteFallback = bytes > 0;
  if (!rules.unknown && bytes < 256)
    return metadata.error("tokenizer.ggml.unknown_token_id",
                          "is missing, and not each byte has a token");

  NormalizerStep step;
  step.kind = NormalizerStep::Kind::SentencePiece;
  auto flag = [&](std::string_view name, bool usual) -> Expected<bool> {
    KF_TRY(auto value, metadata.boolean(fmt::format("tokenizer.ggml.{}", name)));
    return value.value_or(usual);
  };
  KF_TRY(step.addDummyPrefix, flag("add_space_prefix", !isUnigram));
  KF_TRY(step.removeExtraSpaces, flag("remove_extra_whitespaces", false));
  KF_TRY(step.charsmap, readCharsmap(metadata));
  rules.leadingSpace = PieceRules::leadingSpaceOf(step);
  rules.steps.push_back(std::move(step));
  data.pieces = std::move(rules);
  KF_TRY(const auto architecture, metadata.string("general.architecture", maxNameBytes));
  if (architecture == "phi3")
    stripBehind(data);

  assumeControl(metadata, "eos", isUnigram ? 1 : 2, data, data.special.eos);
  if (!isUnigram)
    assumeControl(metadata, "bos", 1, data, data.special.bos);
  if (data.special.endOfGeneration.empty() && data.special.eos)
    data.special.endOfGeneration.push_back(*data.special.eos);
  return {};
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
  const bool isUnigram = data.model == "t5", isPieces = isUnigram || data.model == "llama";
  if (!data.isByteLevel() && !isPieces)
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
  bool usual = false;
  if (isPieces) {
    KF_CHECK(readPieces(metadata, isUnigram, data));
    usual = !isUnigram && data.special.bos;
  } else {
    const auto pieces = PreTokenizer::byName(data.pre, where); // an unknown one is refused later
    usual = pieces && (*pieces)->addsBos() && data.special.bos;
  }
  data.addBos = addBos.value_or(usual);
  constexpr std::string_view bosKey = "tokenizer.ggml.bos_token_id";
  if (data.addBos && !data.special.bos)
    return metadata.error(bosKey, fmt::format("{}, but add_bos_token asks for it",
                                              metadata.find(bosKey) ? "means none" : "is missing"));
  return data;
}

} // namespace kernelforge
