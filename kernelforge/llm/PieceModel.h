// Words to tokens by a vocabulary of pieces: BPE by scores or ranks, and unigram.
#pragma once

#include "kernelforge/llm/PairMerger.h"
#include "kernelforge/llm/PieceRules.h"
#include "kernelforge/llm/PieceSet.h"
#include "kernelforge/llm/TokenizerData.h"
#include "kernelforge/support/Error.h"

#include <array>
#include <bitset>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace kernelforge {

class PieceModel {
public:
  /// `data` has `pieces`. Texts, types and ids of `data` were checked; errors are about scores, the
  /// unknown token, merges, and pieces that are too long.
  static Expected<std::shared_ptr<const PieceModel>> create(const TokenizerData &data);

  /// What encoding reuses from word to word, and what it must know of the word before.
  struct Worker {
    PairMerger merger;
    struct PathEnd { ///< of the best path to a place of the text
      double score;
      TokenId id;
      int32_t begin; ///< where its last piece begins; -1: none ends here
    };
    std::vector<PathEnd> ends;
    std::vector<std::pair<std::string_view, TokenId>> path;
    /// Of unused pieces, the bytes of the left half, as they were last put together.
    std::unordered_map<TokenId, uint32_t> splits;
    bool wasUnknown = false;
  };

  /// Appends the tokens of a word, which is valid UTF-8 of less than 2 GiB.
  void encode(std::string_view word, Worker &worker, std::vector<TokenId> &out) const;

private:
  explicit PieceModel(const PieceRules &rules) : rules(rules) {}

  Status addPieces(const TokenizerData &data);
  void addRanks();
  Status addMerges(const TokenizerData &data);

  void encodeMerges(std::string_view word, Worker &worker, std::vector<TokenId> &out) const;
  void mergePart(std::string_view part, Worker &worker, std::vector<TokenId> &out) const;
  template <typename Sum>
  void encodeUnigram(std::string_view word, Worker &worker, std::vector<TokenId> &out) const;
  std::optional<PairMerge> mergeByScore(std::string_view part, Worker &worker,
                                        const MergeSymbol &left, const MergeSymbol &right) const;
  void emit(std::string_view text, TokenId id, Worker &worker, std::vector<TokenId> &out) const;
  void emitUnknown(std::string_view text, Worker &worker, std::vector<TokenId> &out) const;
  size_t partEnd(std::string_view word) const;
  TokenId find(std::string_view text) const;

  PieceRules rules;
  std::vector<TokenType> types;
  std::unique_ptr<std::string> texts; ///< of all pieces; where they lie does not change
  std::unordered_map<std::string_view, TokenId> ids;
  size_t longest = 0; ///< bytes of a piece
  std::array<TokenId, 256> byteIds{};
  std::vector<uint32_t> ranks;                    ///< of tokens: 0 has the highest score
  std::unordered_map<uint64_t, PairMerge> merges; ///< keyed by left << 32 | right
  bool takesWholeWords = false;
  /// Bytes after which a U+2581 is in some piece: a word is cut before all others, which changes
  /// nothing but how much is in hand at once.
  std::bitset<256> joined;
  PieceSet userDefined; ///< where they are found within the text
  PieceSet lattice;     ///< pieces of unigram
  double unknownScore = 0;
};

} // namespace kernelforge
