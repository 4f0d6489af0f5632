#include "kernelforge/llm/Tokenizer.h"

#include "kernelforge/llm/Normalizer.h"
#include "kernelforge/llm/TokenizerBuilder.h"
#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <fmt/format.h>

namespace kernelforge {

/// Merges the symbols of one piece, smallest rank first and leftmost among equals. Reused from
/// piece to piece to avoid allocation.
struct BpeWorker {
  struct Symbol {
    TokenId id;
    int32_t previous, next; ///< indices, or -1
    bool alive;
  };
  struct Candidate {
    uint32_t rank;
    int32_t left; ///< index of the pair's left symbol
    TokenId result;
    /// Order of a heap whose top is the smallest.
    bool operator<(const Candidate &other) const {
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };

  explicit BpeWorker(const Tokenizer &tokenizer) : tokenizer(tokenizer) {}

  const Tokenizer::Merge *mergeAt(int32_t left) const {
    int32_t right = symbols[left].next;
    if (right < 0)
      return nullptr;
    uint64_t key =
        static_cast<uint64_t>(symbols[left].id) << 32 | static_cast<uint32_t>(symbols[right].id);
    auto found = tokenizer.merges.find(key);
    return found == tokenizer.merges.end() ? nullptr : &found->second;
  }

  void propose(int32_t left) {
    if (left < 0)
      return;
    if (const Tokenizer::Merge *merge = mergeAt(left)) {
      heap.push_back({merge->rank, left, merge->id});
      std::push_heap(heap.begin(), heap.end());
    }
  }

  void run(std::string_view piece, std::vector<TokenId> &out) {
    if (auto whole = tokenizer.wholePieces.find(piece); whole != tokenizer.wholePieces.end())
      return out.push_back(whole->second);
    symbols.clear();
    heap.clear();
    for (char c : piece)
      if (TokenId id = tokenizer.byteIds[static_cast<uint8_t>(c)]; id >= 0) {
        auto index = static_cast<int32_t>(symbols.size());
        symbols.push_back({id, index - 1, index + 1, true});
      }
    if (symbols.empty())
      return;
    symbols.back().next = -1;
    for (size_t i = 0; i + 1 < symbols.size(); ++i)
      if (const Tokenizer::Merge *merge = mergeAt(static_cast<int32_t>(i)))
        heap.push_back({merge->rank, static_cast<int32_t>(i), merge->id});
    std::make_heap(heap.begin(), heap.end());

    while (!heap.empty()) {
      Candidate top = heap.front();
      std::pop_heap(heap.begin(), heap.end());
      heap.pop_back();
      Symbol &left = symbols[top.left];
      if (!left.alive)
        continue;
      // The pair may have changed since it was proposed; another pair with the same result is as
      // good (the reference decides so too).
      const Tokenizer::Merge *now = mergeAt(top.left);
      if (!now || now->id != top.result)
        continue;
      Symbol &right = symbols[left.next];
      left.id = top.result;
      right.alive = false;
      left.next = right.next;
      if (left.next >= 0)
        symbols[left.next].previous = top.left;
      propose(left.previous);
      propose(top.left);
    }
    for (int32_t i = 0; i >= 0; i = symbols[i].next)
      out.push_back(symbols[i].id);
  }

  const Tokenizer &tokenizer;
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

/// One text on its way to ids.
struct Tokenizer::Request {
  std::string_view text;
  bool special;
  std::span<const Range> userRanges; ///< in order, not overlapping; control tokens keep out
  BpeWorker worker;
  std::vector<TokenId> ids;
  bool isComposed = false;

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

void Tokenizer::encodePlain(Request &request, std::string_view text) const {
  PreTokenScanner scanner(*pre, text);
  std::string_view piece;
  while (scanner.next(piece))
    request.worker.run(piece, request.ids);
}

/// Encodes [begin, end), between added tokens of the first pass, after it was composed: what is the
/// user's by itself and what is not, so that it is known of each afterwards.
void Tokenizer::encodeComposed(Request &request, size_t begin, size_t end) const {
  std::string composed;
  std::vector<Range> userRanges;
  auto add = [&](size_t to, bool fromUser) {
    if (to <= begin)
      return;
    const size_t at = composed.size();
    composed += composeUtf8(request.text.substr(begin, to - begin));
    if (fromUser)
      userRanges.push_back({at, composed.size()});
    begin = to;
  };
  for (const Range &range : request.userRanges)
    if (range.end > begin && range.begin < end) {
      add(range.begin, false);
      add(std::min(range.end, end), true);
    }
  add(end, false);
  Request inner{composed,         request.special,        userRanges,
                BpeWorker(*this), std::move(request.ids), /*isComposed=*/true};
  encodePass(inner, 1, 0, composed.size());
  request.ids = std::move(inner.ids);
}

/// Encodes [begin, end): added tokens of this pass first, what is between them in the next.
void Tokenizer::encodePass(Request &request, size_t pass, size_t begin, size_t end) const {
  if (begin == end)
    return;
  if (pass == addedSets.size())
    return encodePlain(request, request.text.substr(begin, end - begin));
  if (pass == 1 && composes && !request.isComposed)
    return encodeComposed(request, begin, end);
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
      encodePass(request, pass + 1, plain, at);
      request.ids.push_back(longest->id);
      plain = after;
    }
    at = after;
  }
  encodePass(request, pass + 1, plain, end);
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
  Request request{text, wantSpecial, {}, BpeWorker(*this), {}};
  encodePass(request, 0, 0, text.size());
  return std::move(request.ids);
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
  Request request{text, true, userRanges, BpeWorker(*this), {}};
  encodePass(request, 0, 0, text.size());
  return std::move(request.ids);
}

std::string_view Tokenizer::piece(TokenId id) const {
  if (id < 0 || id >= vocabSize())
    return {};
  return std::string_view(bytes).substr(offsets[id], offsets[id + 1] - offsets[id]);
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skipSpecial) const {
  std::string out;
  for (TokenId id : ids)
    if (!skipSpecial || !isControl(id))
      out += piece(id);
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
  if (!skipSpecial || !tokenizer->isControl(id))
    held += tokenizer->piece(id);
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
