#include "kernelforge/llm/TokenizerBuilder.h"

#include "kernelforge/llm/Normalizer.h"

#include "kernelforge/llm/ByteAlphabet.h"
#include "kernelforge/support/Utf8.h"

#include <fmt/format.h>
#include <limits>

namespace kernelforge {

namespace {

int hexDigit(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/// The byte of "<0xNN>", exactly that; -1 for anything else (a sign or a third digit included).
int byteOfToken(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>')
    return -1;
  int high = hexDigit(text[3]), low = hexDigit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

} // namespace

tl::unexpected<Error> TokenizerBuilder::error(std::string why, std::string hint) const {
  return unusable("tokenizer is not usable", data.where, std::move(why), std::move(hint));
}

Status TokenizerBuilder::checkShape() const {
  if (data.model == "llama" || data.model == "t5")
    return error(fmt::format("{} (tokenizer model \"{}\")", noSentencePiece, data.model),
                 onlyByteLevel);
  if (!data.isByteLevel())
    return error(fmt::format("tokenizer model \"{}\" is not supported", data.model), onlyByteLevel);
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

Status TokenizerBuilder::addTokens() {
  out.byteIds.fill(-1);
  idOf.reserve(data.tokens.size());
  out.offsets.reserve(data.tokens.size() + 1);
  out.offsets.push_back(0);
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    const std::string &text = data.tokens[i];
    auto id = static_cast<TokenId>(i);
    TokenType type = data.types[i];
    idOf.emplace(text, id);
    bool isAdded = type == TokenType::Control || type == TokenType::UserDefined;
    if (isAdded) {
      out.bytes += text;
      if (!text.empty()) {
        if (text.size() > Tokenizer::maxAddedTokenBytes)
          return error(fmt::format("added token {} is {} bytes long", id, text.size()),
                       fmt::format("the limit is {}", Tokenizer::maxAddedTokenBytes));
        const bool isLate = late.contains(id); // looked for in what is composed
        const std::string sought = isLate && out.composes ? composeUtf8(text) : text;
        out.addedSets[isLate].insert(sought, static_cast<int32_t>(out.added.size()));
        out.added.push_back({sought, id, type == TokenType::Control});
      }
    } else if (type == TokenType::Byte) {
      int byte = byteOfToken(text);
      if (byte < 0)
        return error(fmt::format("byte token {} is not of the form <0xNN>", id));
      out.bytes.push_back(static_cast<char>(byte));
    } else {
      std::optional<std::string> bytes = bytesOfCharacters(text);
      // A text outside the byte alphabet can be printed but never made by merging.
      out.bytes += bytes ? *bytes : text;
      if (bytes && data.ignoresMerges.value_or(out.pre->ignoresMerges()))
        out.wholePieces.emplace(*bytes, id);
    }
    out.offsets.push_back(static_cast<uint32_t>(out.bytes.size()));
  }
  for (int byte = 0; byte < 256; ++byte) {
    std::string text;
    appendUtf8(text, byteCharacter(static_cast<uint8_t>(byte)));
    auto found = idOf.find(text);
    // A control token is never made from ordinary text, not even one of a single character.
    if (found != idOf.end() && data.types[found->second] != TokenType::Control)
      out.byteIds[byte] = found->second;
  }
  return {};
}

Status TokenizerBuilder::addMerges() {
  out.merges.reserve(data.merges.size());
  std::string both;
  for (size_t rank = 0; rank < data.merges.size(); ++rank) {
    std::string_view text = data.merges[rank];
    size_t space = text.find(' ');
    if (space == text.npos || text.find(' ', space + 1) != text.npos)
      return error(fmt::format("merge {} is not two tokens with a space between", rank));
    auto left = idOf.find(text.substr(0, space)), right = idOf.find(text.substr(space + 1));
    both.assign(text.substr(0, space)).append(text.substr(space + 1));
    auto result = idOf.find(both);
    if (left == idOf.end() || right == idOf.end() || result == idOf.end())
      return error(fmt::format("merge {} has a token that is not in the vocabulary", rank));
    if (data.types[result->second] == TokenType::Control)
      continue; // see byteIds
    uint64_t key = static_cast<uint64_t>(left->second) << 32 | static_cast<uint32_t>(right->second);
    out.merges[key] = {static_cast<uint32_t>(rank), result->second};
  }
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
  KF_TRY(out.pre, PreTokenizer::byName(data.pre, data.where));
  out.composes = data.composes.value_or(out.pre->composes());
  KF_CHECK(checkSpecial());
  KF_CHECK(addTokens());
  KF_CHECK(addMerges());
  out.types = std::move(data.types);
  out.special = std::move(data.special);
  out.wantsBos = data.addBos;
  if (out.wantsBos && !out.special.bos)
    return error("it wants BOS in front of a text but names no BOS token");
  findEndOfTurn();
  return std::move(out);
}

} // namespace kernelforge
