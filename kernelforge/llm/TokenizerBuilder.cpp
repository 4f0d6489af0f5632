#include "kernelforge/llm/TokenizerBuilder.h"

#include "kernelforge/llm/ByteAlphabet.h"
#include "kernelforge/llm/ByteToken.h"
#include "kernelforge/support/Utf8.h"

#include <fmt/format.h>
#include <limits>

namespace kernelforge {

tl::unexpected<Error> TokenizerBuilder::error(std::string why, std::string hint) const {
  return unusable("tokenizer is not usable", data.where, std::move(why), std::move(hint));
}

Status TokenizerBuilder::checkShape() const {
  if (!data.isSupported())
    return error(fmt::format("tokenizer model \"{}\" is not supported", data.model),
                 supportedTokenizers);
  size_t count = data.tokens.size();
  if (count == 0)
    return error("its vocabulary is empty");
  if (count > static_cast<size_t>(std::numeric_limits<TokenId>::max()))
    return error(fmt::format("its vocabulary has {} tokens", count));
  if (data.types.size() != count)
    return error(fmt::format("{} tokens but {} token types", count, data.types.size()));
  size_t total = 0;
  for (size_t i = 0; i < count; ++i) {
    const std::string &text = data.tokens[i];
    if (text.size() > TokenizerData::maxTokenBytes)
      return error(fmt::format("token {} is {} bytes long", i, text.size()),
                   fmt::format("the limit is {}", TokenizerData::maxTokenBytes));
    total += text.size();
    if (total > Tokenizer::maxVocabularyBytes)
      return error(
          fmt::format("the texts of its tokens exceed {} bytes", Tokenizer::maxVocabularyBytes));
    if (!isValidUtf8(text))
      return error(fmt::format("the text of token {} is not valid UTF-8", i));
  }
  return {};
}

Status TokenizerBuilder::checkSpecial() const {
  auto check = [&](std::string_view name, std::optional<TokenId> id) -> Status {
    if (id && (*id < 0 || static_cast<size_t>(*id) >= data.tokens.size()))
      return error(fmt::format("{} token {} is not in the vocabulary of {} tokens", name, *id,
                               data.tokens.size()));
    return {};
  };
  KF_CHECK(check("BOS", data.special.bos));
  KF_CHECK(check("EOS", data.special.eos));
  for (TokenId id : data.special.endOfGeneration)
    KF_CHECK(check("end-of-generation", id));
  return {};
}

Status TokenizerBuilder::addAdded(TokenId id) {
  const std::string &text = data.tokens[id];
  if (text.empty())
    return {};
  if (text.size() > Tokenizer::maxAddedTokenBytes)
    return error(fmt::format("added token {} is {} bytes long", id, text.size()),
                 fmt::format("the limit is {}", Tokenizer::maxAddedTokenBytes));
  const auto found = data.added.find(id);
  const AddedTokenRules rules = found == data.added.end() ? AddedTokenRules() : found->second;
  // A late one is looked for in what was normalized.
  size_t ignored = 0;
  const std::string sought =
      rules.isLate && out.normalizes() ? out.normalize(text, {}, ignored) : text;
  const bool isControl = data.types[id] != TokenType::UserDefined;
  if (!data.isWithin(id) && !sought.empty())
    out.addedSets[rules.isLate].insert(sought, static_cast<int32_t>(out.added.size()));
  out.added.push_back({sought, id, isControl, rules.stripLeft, rules.stripRight});
  return {};
}

/// What a byte-level token stands for.
Status TokenizerBuilder::addByteText(TokenId id) {
  const std::string &text = data.tokens[id];
  if (data.types[id] == TokenType::Control || data.types[id] == TokenType::UserDefined) {
    out.bytes += text;
    return addAdded(id);
  }
  std::optional<std::string> bytes = bytesOfCharacters(text);
  // A text outside the byte alphabet can be printed but never made by merging.
  out.bytes += bytes ? *bytes : text;
  if (bytes && data.ignoresMerges.value_or(out.pre->ignoresMerges()))
    out.wholePieces.emplace(*bytes, id);
  return {};
}

static std::string without(std::string_view text, std::string_view part) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t found = std::min(text.find(part, at), text.size());
    out += text.substr(at, found - at);
    at = found + part.size();
  }
  return out;
}

/// What a piece stands for.
Status TokenizerBuilder::addPieceText(TokenId id) {
  const TokenType type = data.types[id];
  const std::string &text = data.tokens[id];
  if (type == TokenType::Unknown && !data.pieces->unknownText.empty())
    out.bytes += data.pieces->unknownText;
  else if (type == TokenType::Control)
    out.bytes += text;
  else
    for (size_t at = 0; at < text.size();) {
      const bool isSpace = std::string_view(text).substr(at).starts_with(pieceSpace);
      out.bytes += isSpace ? ' ' : text[at];
      at += isSpace ? pieceSpace.size() : 1;
    }
  if (data.pieces->leadingSpace == PieceRules::LeadingSpace::DropFirstToken &&
      text.find(' ') != text.npos)
    out.asFirst.emplace(id, without(text, pieceSpace));
  const bool isAdded =
      type == TokenType::Control || type == TokenType::UserDefined || type == TokenType::Unknown;
  return isAdded ? addAdded(id) : Status();
}

Status TokenizerBuilder::addTokens() {
  out.offsets.reserve(data.tokens.size() + 1);
  out.offsets.push_back(0);
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (data.types[i] == TokenType::Byte) {
      const int byte = byteOfToken(data.tokens[i]);
      if (byte < 0)
        return error(fmt::format("byte token {} is not of the form <0xNN>", id));
      out.bytes.push_back(static_cast<char>(byte));
    } else {
      KF_CHECK(data.pieces ? addPieceText(id) : addByteText(id));
    }
    out.offsets.push_back(static_cast<uint32_t>(out.bytes.size()));
  }
  return {};
}

void TokenizerBuilder::addByteIds() {
  out.byteIds.fill(-1);
  for (int byte = 0; byte < 256; ++byte) {
    std::string text;
    appendUtf8(text, byteCharacter(static_cast<uint8_t>(byte)));
    auto found = idOf.find(text);
    // A control token is never made from ordinary text, not even one of a single character.
    if (found != idOf.end() && data.types[found->second] != TokenType::Control)
      out.byteIds[byte] = found->second;
  }
}

Status TokenizerBuilder::addMerges() {
  idOf.reserve(data.tokens.size());
  for (size_t i = 0; i < data.tokens.size(); ++i)
    idOf.emplace(data.tokens[i], static_cast<TokenId>(i));
  addByteIds();
  out.merges.reserve(data.merges.size());
  std::string both;
  for (size_t rank = 0; rank < data.merges.size(); ++rank) {
    KF_TRY(const MergeText merge, splitMerge(data, rank));
    auto left = idOf.find(merge.left), right = idOf.find(merge.right);
    both.assign(merge.left).append(merge.right);
    auto result = idOf.find(both);
    if (left == idOf.end() || right == idOf.end() || result == idOf.end())
      return error(fmt::format("merge {} has a token that is not in the vocabulary", rank));
    if (data.types[result->second] == TokenType::Control)
      continue; // see addByteIds
    uint64_t key = static_cast<uint64_t>(left->second) << 32 | static_cast<uint32_t>(right->second);
    out.merges[key] = {static_cast<uint32_t>(rank), result->second};
  }
  return {};
}

Status TokenizerBuilder::addPieces() {
  PieceRules &rules = *data.pieces;
  KF_TRY(out.pieces, PieceModel::create(data));
  std::vector<std::pair<std::string, TokenId>> untouched;
  for (size_t i = 0; i < data.tokens.size(); ++i)
    if (data.isWithin(static_cast<TokenId>(i)))
      untouched.emplace_back(data.tokens[i], static_cast<TokenId>(i));
  const bool tracksFirst = std::ranges::any_of(
      rules.cuts, [](const CutStep &cut) { return cut.prefix == CutStep::Prefix::First; });
  out.normalizer =
      TextNormalizer(std::move(rules.steps), PieceSet(std::move(untouched)), tracksFirst);
  out.cuts = std::move(rules.cuts);
  out.leadingSpace = rules.leadingSpace;
  return {};
}

void TokenizerBuilder::findEndOfTurn() {
  // No format has a field for it; these are the names that the common chat formats use.
  for (std::string_view name : {"<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>"})
    if (auto id = out.addedToken(name); id && out.isControl(*id)) {
      out.endOfTurn = id;
      return;
    }
}

Expected<Tokenizer> TokenizerBuilder::build() {
  KF_CHECK(checkShape());
  KF_CHECK(checkSpecial());
  if (data.pieces) {
    KF_CHECK(addPieces());
  } else {
    KF_TRY(out.pre, PreTokenizer::byName(data.pre, data.where));
    out.composes = data.composes.value_or(out.pre->composes());
    KF_CHECK(addMerges());
  }
  KF_CHECK(addTokens());
  out.types = std::move(data.types);
  out.special = std::move(data.special);
  out.wantsBos = data.addBos;
  if (out.wantsBos && !out.special.bos)
    return error("it wants BOS in front of a text but names no BOS token");
  findEndOfTurn();
  return std::move(out);
}

} // namespace kernelforge
