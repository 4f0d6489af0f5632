#include "kernelforge/llm/Tokenizer.h"

#include "kernelforge/llm/Normalizer.h"
#include "kernelforge/llm/TokenizerBuilder.h"
#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <fmt/format.h>
#include <iterator>
#include <utility>

namespace kernelforge {

/// One text on its way to ids.
struct Tokenizer::Request {
  std::string_view text;
  bool special;
  std::span<const Range> userRanges; ///< in order, not overlapping; control tokens keep out
  bool isNormalized = false;
  size_t ofFirst = 1; ///< bytes at the beginning that stand for the first character of all
  std::vector<TokenId> ids{};
  PairMerger merger{};
  PieceModel::Worker worker{};
  bool isTooLong = false; ///< once it was normalized

  bool touchesUser(size_t begin, size_t end) const {
    auto first = std::partition_point(userRanges.begin(), userRanges.end(),
                                      [&](const Range &range) { return range.end <= begin; });
    return first != userRanges.end() && first->begin < end;
  }
};

Expected<Tokenizer> Tokenizer::create(TokenizerData data) {
  return TokenizerBuilder(std::move(data)).build();
}

void Tokenizer::AddedSet::insert(std::string_view text, int32_t index) {
  uint64_t node = 0;
  first.set(static_cast<uint8_t>(text[0]));
  for (char c : text) {
    auto [edge, isNew] = edges.try_emplace(node << 8 | static_cast<uint8_t>(c),
                                           static_cast<uint32_t>(tokenAt.size()));
    if (isNew)
      tokenAt.push_back(-1);
    node = edge->second;
  }
  if (tokenAt[node] < 0) // of equal texts the lowest id counts
    tokenAt[node] = index;
}

void Tokenizer::encodeBytes(Request &request, std::string_view piece) const {
  if (auto whole = wholePieces.find(piece); whole != wholePieces.end())
    return request.ids.push_back(whole->second);
  PairMerger &merger = request.merger;
  merger.clear();
  for (size_t i = 0; i < piece.size(); ++i)
    if (TokenId id = byteIds[static_cast<uint8_t>(piece[i])]; id >= 0)
      merger.add({id, static_cast<uint32_t>(i), 1});
  if (merger.symbols.empty())
    return;
  merger.merge([&](const MergeSymbol &left, const MergeSymbol &right) {
    const auto found =
        merges.find(static_cast<uint64_t>(left.id) << 32 | static_cast<uint32_t>(right.id));
    return found == merges.end() ? std::nullopt : std::optional(found->second);
  });
  for (int32_t i = 0; i >= 0; i = merger.symbols[i].next)
    request.ids.push_back(merger.symbols[i].id);
}

/// Cuts a normalized text into words by `cuts` from the given one on, and encodes each. `ofFirst`:
/// how many bytes at its beginning stand for the first character of all.
void Tokenizer::encodeWords(Request &request, std::string_view text, size_t cut,
                            size_t ofFirst) const {
  if (text.empty())
    return;
  if (cut == cuts.size()) {
    request.worker.wasUnknown = false;
    return pieces->encode(text, request.worker, request.ids);
  }
  forEachWord(cuts[cut], text, ofFirst, [&](std::string_view word, size_t ofFirstInWord) {
    encodeWords(request, word, cut + 1, ofFirstInWord);
  });
}

void Tokenizer::encodePlain(Request &request, size_t begin, size_t end) const {
  const std::string_view text = request.text.substr(begin, end - begin);
  if (pieces)
    return encodeWords(request, text, 0, request.ofFirst - std::min(request.ofFirst, begin));
  PreTokenScanner scanner(*pre, text);
  std::string_view piece;
  while (scanner.next(piece))
    encodeBytes(request, piece);
}

std::string Tokenizer::normalize(std::string_view text, TextPart part, size_t &ofFirst) const {
  return pieces ? normalizer.apply(text, part, ofFirst) : composeUtf8(text);
}

/// Encodes [begin, end), between added tokens of the first pass, after it was normalized: what is
/// the user's by itself and what is not, so that it is known of each afterwards.
void Tokenizer::encodeNormalized(Request &request, size_t begin, size_t end) const {
  std::string normalized;
  std::vector<Range> userRanges;
  size_t at = begin;
  size_t ofFirst = 0;
  auto add = [&](size_t to, bool fromUser) {
    if (to <= at)
      return;
    const size_t place = normalized.size();
    size_t bytes = 0;
    normalized += normalize(request.text.substr(at, to - at), {at == begin, to == end}, bytes);
    if (at == 0 && request.ofFirst > 0)
      ofFirst = bytes;
    if (fromUser && normalized.size() > place)
      userRanges.push_back({place, normalized.size()});
    at = to;
  };
  auto range = std::partition_point(request.userRanges.begin(), request.userRanges.end(),
                                    [&](const Range &range) { return range.end <= begin; });
  for (; range != request.userRanges.end() && range->begin < end; ++range) {
    add(range->begin, false);
    add(std::min(range->end, end), true);
  }
  add(end, false);
  if (normalized.size() > TextNormalizer::maxBytes) {
    request.isTooLong = true;
    return;
  }
  Request inner{normalized, request.special, userRanges, /*isNormalized=*/true, ofFirst};
  std::swap(inner.ids, request.ids);
  std::swap(inner.worker, request.worker);
  std::swap(inner.merger, request.merger);
  encodePass(inner, 1, 0, normalized.size());
  std::swap(inner.ids, request.ids);
  std::swap(inner.worker, request.worker);
  std::swap(inner.merger, request.merger);
}

/// Encodes [begin, end): added tokens of this pass first, what is between them in the next.
void Tokenizer::encodePass(Request &request, size_t pass, size_t begin, size_t end) const {
  if (begin == end || request.isTooLong)
    return;
  if (pass == addedSets.size())
    return encodePlain(request, begin, end);
  if (pass == 1 && normalizes() && !request.isNormalized)
    return encodeNormalized(request, begin, end);
  const AddedSet &set = addedSets[pass];
  size_t plain = begin;
  for (size_t at = begin; at < end;) {
    const Added *longest = nullptr;
    if (set.first.test(static_cast<uint8_t>(request.text[at]))) {
      uint64_t node = 0;
      for (size_t i = at; i < end; ++i) {
        auto edge = set.edges.find(node << 8 | static_cast<uint8_t>(request.text[i]));
        if (edge == set.edges.end())
          break;
        node = edge->second;
        if (int32_t index = set.tokenAt[node]; index >= 0) {
          const Added &token = added[index];
          if (!token.control || !request.touchesUser(at, i + 1))
            longest = &token;
        }
      }
    }
    if (!longest) {
      ++at;
      continue;
    }
    size_t after = at + longest->text.size();
    // Where control tokens are not wanted their text is passed over as a whole, as the reference
    // does: a user defined token inside it is not looked for.
    if (!longest->control || request.special) {
      const size_t before = longest->stripLeft ? spaceBefore(request.text, plain, at) : at;
      if (longest->stripRight)
        after += spaceAtBegin(request.text.substr(after, end - after));
      encodePass(request, pass + 1, plain, before);
      request.ids.push_back(longest->id);
      plain = after;
    }
    at = after;
  }
  encodePass(request, pass + 1, plain, end);
}

Expected<std::vector<TokenId>> Tokenizer::encodeAll(Request request) const {
  encodePass(request, 0, 0, request.text.size());
  if (request.isTooLong)
    return unusable(
        "text cannot be tokenized", "",
        fmt::format("it has more than {} bytes once it is normalized", TextNormalizer::maxBytes),
        "split it");
  return std::move(request.ids);
}

Expected<std::vector<TokenId>> Tokenizer::encode(std::string_view text, bool wantSpecial) const {
  if (text.size() > maxTextBytes)
    return unusable("text cannot be tokenized", "",
                    fmt::format("it has {} bytes, more than {}", text.size(), maxTextBytes),
                    "split it");
  std::string replaced;
  if (!isValidUtf8(text)) {
    replaced = replaceInvalidUtf8(text);
    text = replaced;
  }
  return encodeAll({text, wantSpecial, {}});
}

Expected<std::vector<TokenId>>
Tokenizer::encodeSegments(std::span<const TextSegment> segments) const {
  std::string text;
  std::vector<Range> userRanges;
  for (const TextSegment &segment : segments) {
    if (segment.text.size() > maxTextBytes || text.size() > maxTextBytes - segment.text.size())
      return unusable("prompt cannot be tokenized", "",
                      fmt::format("it has more than {} bytes", maxTextBytes), "shorten it");
    size_t begin = text.size();
    text += replaceInvalidUtf8(segment.text);
    if (segment.fromUser && text.size() > begin)
      userRanges.push_back({begin, text.size()});
  }
  return encodeAll({text, true, userRanges});
}

std::string_view Tokenizer::piece(TokenId id) const {
  if (id < 0 || id >= vocabSize())
    return {};
  return std::string_view(bytes).substr(offsets[id], offsets[id + 1] - offsets[id]);
}

void Tokenizer::appendText(TokenId id, bool skipSpecial, bool &atStart, std::string &out) const {
  if (skipSpecial && isControl(id))
    return;
  std::string_view text = piece(id);
  const bool isFirst = std::exchange(atStart, atStart && text.empty()) && !text.empty();
  const bool isText = isFirst && types[id] != TokenType::Byte && types[id] != TokenType::Unknown;
  switch (isText ? leadingSpace : PieceRules::LeadingSpace::Keep) {
  case PieceRules::LeadingSpace::Keep:
    break;
  case PieceRules::LeadingSpace::DropFirstToken:
    if (const auto found = asFirst.find(id); found != asFirst.end())
      out += found->second;
    else
      std::ranges::copy_if(text, std::back_inserter(out), [](char c) { return c != ' '; });
    return;
  case PieceRules::LeadingSpace::DropOne:
  case PieceRules::LeadingSpace::DropOfEach:
    if (text.starts_with(' '))
      text.remove_prefix(1);
    atStart = leadingSpace == PieceRules::LeadingSpace::DropOfEach && text.empty();
    break;
  }
  out += text;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skipSpecial) const {
  std::string out;
  bool atStart = true;
  for (TokenId id : ids)
    appendText(id, skipSpecial, atStart, out);
  return out;
}

std::optional<TokenId> Tokenizer::addedToken(std::string_view text) const {
  for (const Added &token : added)
    if (token.text == text)
      return token.id;
  return std::nullopt;
}

bool Tokenizer::isEndOfGeneration(TokenId id) const {
  return (special.eos && *special.eos == id) ||
         std::find(special.endOfGeneration.begin(), special.endOfGeneration.end(), id) !=
             special.endOfGeneration.end();
}

bool Tokenizer::isControl(TokenId id) const {
  return id >= 0 && id < vocabSize() && types[id] == TokenType::Control;
}

std::string StreamDecoder::put(TokenId id) {
  tokenizer->appendText(id, skipSpecial, atStart, held);
  size_t complete = held.size() - incompleteUtf8Suffix(held);
  std::string out = replaceInvalidUtf8(std::string_view(held).substr(0, complete));
  held.erase(0, complete);
  return out;
}

std::string StreamDecoder::finish() {
  std::string out = replaceInvalidUtf8(held);
  held.clear();
  return out;
}

} // namespace kernelforge
