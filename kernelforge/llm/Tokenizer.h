// Text to token ids and back, from a GGUF file's metadata, a tokenizer.json or a tokenizer.model:
// byte-level BPE, and pieces as SentencePiece or Hugging Face's `tokenizers` makes them.
#pragma once

#include "kernelforge/llm/PieceModel.h"
#include "kernelforge/llm/PreTokenizer.h"
#include "kernelforge/llm/TextNormalizer.h"
#include "kernelforge/llm/TokenizerData.h"
#include "kernelforge/support/Error.h"

#include <array>
#include <bitset>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace kernelforge {

/// A piece of a prompt and where it came from. Text of users is not trusted: it never becomes a
/// control token.
struct TextSegment {
  std::string text;
  bool fromUser = false;
};

class Tokenizer {
public:
  /// The longest text that encode() takes, in bytes.
  static constexpr size_t maxTextBytes = size_t(64) << 20;
  /// The most that all token texts together may hold, in bytes.
  static constexpr size_t maxVocabularyBytes = size_t(256) << 20;
  /// The longest text of a token that is looked for in the input (control, user defined).
  static constexpr size_t maxAddedTokenBytes = 1024;

  /// Builds a tokenizer; the data is not trusted. Errors: an unknown model or pre-tokenizer,
  /// lengths that differ, a special id beyond the vocabulary, a merge of unknown tokens, a
  /// malformed byte token, a score that is no number, a limit exceeded.
  static Expected<Tokenizer> create(TokenizerData data);

  /// Builds a tokenizer from the text of a tokenizer.json. What this tokenizer would do differently
  /// (another model, normalizer or pre-tokenizer) is refused by name. `where` names the file.
  static Expected<Tokenizer> fromJson(std::string_view json, std::string_view where = "");

  /// The same from the bytes of a tokenizer.model, SentencePiece's own file.
  static Expected<Tokenizer> fromSentencePiece(std::string_view file, std::string_view where = "");

  /// Builds the tokenizer that a model brings; reads tokenizer.json or tokenizer.model where that
  /// is its source.
  static Expected<Tokenizer> load(const TokenizerSource &source);

  /// The ids of a text; adds no BOS. Each maximal invalid UTF-8 subpart counts as U+FFFD. With
  /// `special`, the texts of control tokens become those tokens; without, ordinary text (user
  /// defined tokens are recognised either way). What the vocabulary has no token for is the unknown
  /// token, or left out where there is none, as the references do. Error: longer than maxTextBytes,
  /// also once it is normalized (four times as long).
  Expected<std::vector<TokenId>> encode(std::string_view text, bool special) const;

  /// The ids of a prompt made of segments, encoded as one text: merges cross the borders, but a
  /// control token is only recognised where all of its text is trusted. Error as encode().
  Expected<std::vector<TokenId>> encodeSegments(std::span<const TextSegment> segments) const;

  /// The bytes that ids stand for; they need not be valid UTF-8 (see StreamDecoder). Ids outside
  /// the vocabulary stand for nothing; control tokens too if `skipSpecial`. The space that encoding
  /// puts in front of a text is left out.
  std::string decode(std::span<const TokenId> ids, bool skipSpecial) const;

  /// The bytes that one id stands for; empty outside the vocabulary.
  std::string_view piece(TokenId id) const;

  /// The id whose text is exactly `text` among control and user defined tokens.
  std::optional<TokenId> addedToken(std::string_view text) const;

  std::optional<TokenId> bos() const { return special.bos; }
  std::optional<TokenId> eos() const { return special.eos; }
  /// The control token that ends a turn of a chat (<|im_end|>, <|eot_id|>, ...), if there is one.
  std::optional<TokenId> eot() const { return endOfTurn; }
  /// True for the ids that the model's configuration ends a generation with.
  bool isEndOfGeneration(TokenId id) const;
  /// True where the model wants BOS in front of a text; encode() never adds it.
  bool addBos() const { return wantsBos; }
  bool isControl(TokenId id) const;
  int64_t vocabSize() const { return static_cast<int64_t>(types.size()); }

private:
  friend class TokenizerBuilder;
  friend class StreamDecoder;

  struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  struct Added {
    std::string text;
    TokenId id;
    bool control;
    bool stripLeft, stripRight;
  };
  /// Added tokens to look for together: a trie over bytes, `edges` keyed by node * 256 + byte.
  struct AddedSet {
    std::bitset<256> first;
    std::unordered_map<uint64_t, uint32_t> edges;
    std::vector<int32_t> tokenAt{-1}; ///< per node: index into `added`, or -1
    void insert(std::string_view text, int32_t index);
  };
  /// A stretch of the text, in bytes.
  struct Range {
    size_t begin, end;
  };
  struct Request;

  Tokenizer() = default;
  Expected<std::vector<TokenId>> encodeAll(Request request) const;
  void encodePass(Request &request, size_t pass, size_t begin, size_t end) const;
  void encodePlain(Request &request, size_t begin, size_t end) const;
  void encodeBytes(Request &request, std::string_view piece) const;
  void encodeWords(Request &request, std::string_view text, size_t cut, size_t ofFirst) const;
  void encodeNormalized(Request &request, size_t begin, size_t end) const;
  std::string normalize(std::string_view text, TextPart part, size_t &ofFirst) const;
  bool normalizes() const { return composes || pieces; }
  /// Adds the bytes of an id to a text; `atStart` says whether there was nothing before, and is
  /// kept up.
  void appendText(TokenId id, bool skipSpecial, bool &atStart, std::string &out) const;

  const PreTokenizer *pre = nullptr; ///< of byte-level BPE
  // Of pieces.
  std::shared_ptr<const PieceModel> pieces;
  TextNormalizer normalizer;
  std::vector<CutStep> cuts;
  PieceRules::LeadingSpace leadingSpace = PieceRules::LeadingSpace::Keep;

  std::vector<TokenType> types;
  std::string bytes; ///< the bytes of all tokens, one after another
  /// Of tokens with spaces of their own, what they are where only U+2581 is left out
  /// (DropFirstToken).
  std::unordered_map<TokenId, std::string> asFirst;
  std::vector<uint32_t> offsets; ///< token i is bytes [offsets[i], offsets[i + 1])
  std::array<TokenId, 256> byteIds{};
  std::unordered_map<uint64_t, PairMerge> merges; ///< keyed by left << 32 | right
  /// Pieces that are tokens and need no merging, by their bytes; empty where merges decide.
  std::unordered_map<std::string, TokenId, TextHash, std::equal_to<>> wholePieces;
  std::vector<Added> added;
  /// Looked for one after another: first what matches the text as it is, then, in what is between,
  /// what matches it after it was normalized.
  std::array<AddedSet, 2> addedSets;
  bool composes = false; ///< text is normalized: characters are composed (NFC)
  SpecialTokens special;
  std::optional<TokenId> endOfTurn;
  bool wantsBos = false;
};

/// Turns a stream of ids into text of complete UTF-8 characters only: what is incomplete is held
/// back until the next id. The tokenizer must outlive it.
class StreamDecoder {
public:
  /// `atStart`: whether a text begins with the first id, rather than going on.
  explicit StreamDecoder(const Tokenizer &tokenizer, bool skipSpecial = true, bool atStart = true)
      : tokenizer(&tokenizer), skipSpecial(skipSpecial), atStart(atStart) {}

  /// Text that is complete after this id; invalid bytes become U+FFFD.
  std::string put(TokenId id);
  /// What is still held back at the end, incomplete bytes as U+FFFD.
  std::string finish();

private:
  const Tokenizer *tokenizer;
  bool skipSpecial, atStart;
  std::string held;
};

} // namespace kernelforge
