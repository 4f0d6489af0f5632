// What a model file says about its tokenizer, in plain structs: the loaders fill them, the
// tokenizer is built from them. Where a model carries tokenizer.json instead of arrays, only its
// path is given and the tokenizer reads that file itself.
#pragma once

#include "kernelforge/llm/PieceRules.h"

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace kernelforge {

using TokenId = int32_t;

/// What kind of token an id is; the numbers are those of GGUF's tokenizer.ggml.token_type.
enum class TokenType : uint8_t {
  Normal = 1,
  Unknown = 2,
  Control = 3, ///< found in text only where special tokens are asked for; prints as nothing
  UserDefined = 4,
  Unused = 5,
  Byte = 6 ///< stands for one byte, written <0xNN>
};

/// Whether an id in a file says that there is no such token: -1, or what that is without a sign.
inline bool meansNoToken(int64_t id) { return id == -1 || id == UINT32_MAX; }

/// Token ids with a meaning. Every id that is set was checked by the loader to be at least 0 and
/// below the vocabulary's size. Ids that nothing uses (padding, unknown, mask) are not read.
struct SpecialTokens {
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
  /// Ids that end a generation: eos and its siblings (config.json may list several), no duplicates.
  std::vector<TokenId> endOfGeneration;
};

/// What a tokenizer is that another one is refused beside.
inline constexpr const char *supportedTokenizers =
    "byte-level BPE and SentencePiece's BPE and unigram are";

/// A token that is looked for in the text before all else, as a tokenizer.json has it.
struct AddedTokenRules {
  bool isLate = false; ///< looked for in what was normalized, and normalized itself
  bool stripLeft = false, stripRight = false; ///< takes white space beside it with it
  bool isApart = false; ///< no piece of the model's own: never made of what is beside such tokens
};

/// The vocabulary of a file, after it has been read. `tokens` and `types` are indexed by id and
/// have the same length. Token texts are as stored: byte-mapped or with U+2581 for spaces, valid
/// UTF-8, each at most maxTokenBytes long. Of a model that is not supported there is only the name.
struct TokenizerData {
  std::string where; ///< file the data came from, for messages
  /// "gpt2": byte-level BPE; "llama" and "t5": SentencePiece; other names are possible.
  std::string model;
  std::string pre; ///< name of the pre-tokenizer ("smollm", "gpt-2", ...); empty: not stated
  std::vector<std::string> tokens;
  std::vector<TokenType> types;
  std::vector<std::string> merges; ///< "left right", in order of rank; not checked against tokens
  /// Whether a piece that is a token is taken before anything is merged; not stated: as with its
  /// pre-tokenizer it is usual.
  std::optional<bool> ignoresMerges;
  std::optional<bool> composes; ///< whether text is normalized (NFC); not stated: the same
  std::unordered_map<TokenId, AddedTokenRules> added; ///< where they are not the default
  std::optional<PieceRules> pieces;                   ///< of a tokenizer of pieces
  SpecialTokens special;
  bool addBos = false;

  static constexpr size_t maxTokenBytes = 65536;

  bool isByteLevel() const { return model == "gpt2" && !pieces; }
  /// Whether a user defined token is found within a normalized text, rather than cut out before.
  bool isWithin(TokenId id) const {
    return pieces && pieces->userDefinedWithin && types[id] == TokenType::UserDefined &&
           !added.contains(id);
  }
  bool isSupported() const { return isByteLevel() || pieces; }
};

/// Where a model's tokenizer comes from: exactly one of the three is set, or none where the model
/// brings no tokenizer at all.
struct TokenizerSource {
  std::optional<TokenizerData> data; ///< from GGUF metadata
  std::string jsonPath;              ///< of tokenizer.json, which exists and is a regular file
  std::string modelPath;             ///< of tokenizer.model, the same
  /// With a path: what config.json and tokenizer_config.json add to it.
  SpecialTokens special;
  std::optional<bool> addBos;
  int64_t vocabSize = 0; ///< rows of the embedding: every id of the tokenizer must be below it

  bool present() const { return data.has_value() || !jsonPath.empty() || !modelPath.empty(); }
};

} // namespace kernelforge
