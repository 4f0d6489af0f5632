// Text to token ids and back: byte-level BPE as Hugging Face's `tokenizers` does it, from a GGUF
// file's metadata or from a tokenizer.json.
#pragma once

#include "kernelforge/llm/PreTokenizer.h"
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

  /// Builds a tokenizer; the data is not trusted. Errors: another model than "gpt2", an unknown
  /// pre-tokenizer, lengths that differ, a special id beyond the vocabulary, a merge of unknown
  /// tokens, a malformed byte token, a limit exceeded.
  static Expected<Tokenizer> create(TokenizerData data);

  /// Builds a tokenizer from the text of a tokenizer.json. What this tokenizer would do differently
  /// (another model, normalizer or pre-tokenizer) is refused by name. `where` names the file.
  static Expected<Tokenizer> fromJson(std::string_view json, std::string_view where = "");

  /// Builds the tokenizer that a model brings; reads tokenizer.json where that is its source.
  static Expected<Tokenizer> load(const TokenizerSource &source);

  /// The ids of a text; adds no BOS. Each maximal invalid UTF-8 subpart counts as U+FFFD. With
  /// `special`, the texts of control tokens become those tokens; without, ordinary text (user
  /// defined tokens are recognised either way). Bytes that the vocabulary has no token for are left
  /// out, as the reference does. Error: longer than maxTextBytes.
  Expected<std::vector<TokenId>> encode(std::string_view text, bool special) const;

  /// The ids of a prompt made of segments, encoded as one text: merges cross the borders, but a
  /// control token is only recognised where all of its text is trusted. Error as encode().
  Expected<std::vector<TokenId>> encodeSegments(std::span<const TextSegment> segments) const;

  /// The bytes that ids stand for; they need not be valid UTF-8 (see StreamDecoder). Ids outside
  /// the vocabulary stand for nothing; control tokens too if `skipSpecial`.
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
  friend struct BpeWorker;

  struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  struct Merge {
    uint32_t rank;
    TokenId id;
  };
  struct Added {
    std::string text;
    TokenId id;
    bool control;
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
  void encodePass(Request &request, size_t pass, size_t begin, size_t end) const;
  void encodePlain(Request &request, std::string_view text) const;
  void encodeComposed(Request &request, size_t begin, size_t end) const;

  const PreTokenizer *pre = nullptr;
  std::vector<TokenType> types;
  std::string bytes;             ///< the bytes of all tokens, one after another
  std::vector<uint32_t> offsets; ///< token i is bytes [offsets[i], offsets[i + 1])
  std::array<TokenId, 256> byteIds{};
  std::unordered_map<uint64_t, Merge> merges; ///< keyed by left << 32 | right
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
  explicit StreamDecoder(const Tokenizer &tokenizer, bool skipSpecial = true)
      : tokenizer(&tokenizer), skipSpecial(skipSpecial) {}

  /// Text that is complete after this id; invalid bytes become U+FFFD.
  std::string put(TokenId id);
  /// What is still held back at the end, incomplete bytes as U+FFFD.
  std::string finish();

private:
  const Tokenizer *tokenizer;
  bool skipSpecial;
  std::string held;
};

} // namespace kernelforge
