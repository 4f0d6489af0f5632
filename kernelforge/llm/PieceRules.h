// What a file says of a tokenizer whose tokens are pieces of text (SentencePiece's, and those that
// Hugging Face's `tokenizers` makes from them), in plain structs.
#pragma once

#include "kernelforge/llm/Charsmap.h"
#include "kernelforge/llm/PieceSet.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kernelforge {

/// U+2581, which stands for a space in pieces.
inline constexpr std::string_view pieceSpace = "\u2581";

/// What an unknown token prints as where a file does not say.
inline constexpr std::string_view defaultUnknownText = " \u2047 ";

/// One thing that is done to a text before it is cut.
struct NormalizerStep {
  enum class Kind : uint8_t {
    SentencePiece,        ///< all that SentencePiece's own normalizer does, see the fields below
    Charsmap,             ///< the table of it as `tokenizers` reads it: grapheme by grapheme
    Compose,              ///< NFC
    ComposeCompatibility, ///< NFKC
    Lowercase,
    Prepend,       ///< `to` in front of a text that is not empty
    Replace,       ///< each `from` by `to`
    ReplaceSpaces, ///< each run of at least two spaces by `to`
    TrimSpaces,    ///< spaces at both ends
    DoubleSpace,   ///< a U+2581 at the beginning by two
    Strip          ///< white space at the ends that `left` and `right` name
  };
  Kind kind;
  std::string from, to;
  bool left = false, right = false;
  std::shared_ptr<const Charsmap> charsmap; ///< of SentencePiece (may be null) and Charsmap
  // Of SentencePiece.
  bool addDummyPrefix = false;    ///< a space in front, or behind with `spaceIsSuffix`
  bool removeExtraSpaces = false; ///< at the ends, and of several all but one
  bool escapeSpaces = true;       ///< to U+2581
  bool spaceIsSuffix = false;
};

/// One way in which a normalized text is cut into words, within which pieces are found.
struct CutStep {
  enum class Kind : uint8_t {
    Metaspace,  ///< spaces become U+2581, one is put in front, and words begin at each if `split`
    Whitespace, ///< words are what white space is around
    Isolate     ///< each of `literals` is a word
  };
  enum class Prefix : uint8_t { Never, First, Always };
  Kind kind;
  Prefix prefix = Prefix::Never; ///< First: only at the beginning of the whole text
  bool split = true;
  PieceSet literals; ///< the longest that fits counts
};

struct PieceRules {
  enum class Algorithm : uint8_t {
    MergesByScore, ///< BPE of SentencePiece: two neighbours merge where both together are a piece
    MergesByRank,  ///< BPE with a list of merges
    Unigram        ///< the pieces whose scores have the largest sum
  };
  Algorithm algorithm = Algorithm::MergesByScore;
  std::vector<double> scores;     ///< of each token; empty with MergesByRank
  std::optional<int32_t> unknown; ///< for a character that no piece and no bytes stand for
  bool byteFallback = false; ///< such a character becomes its bytes' tokens where there are all
  /// The texts of byte tokens are pieces, too, and all scores count for the lowest, as `tokenizers`
  /// has it: a text "<0x41>" becomes that token.
  bool bytesArePieces = false;
  bool fuseUnknown = true; ///< several such characters in a row are one unknown token
  /// The worth of a path is summed in f32, as SentencePiece does; else in f64, as the others do.
  bool sumsInF32 = false;
  /// User defined tokens are found in the normalized text and belong to it, as SentencePiece has
  /// it; else the text is cut at them before anything else is done, and what is between is a text.
  bool userDefinedWithin = false;
  std::vector<NormalizerStep> steps;
  std::vector<CutStep> cuts;
  /// What decoding leaves out at the beginning of a text.
  enum class LeadingSpace : uint8_t {
    Keep,
    DropOne,        ///< one space
    DropFirstToken, ///< all U+2581 of the first token
    DropOfEach      ///< one space of each token until there is text
  };
  LeadingSpace leadingSpace = LeadingSpace::Keep;
  /// That of a file whose normalizer is SentencePiece's.
  static LeadingSpace leadingSpaceOf(const NormalizerStep &step) {
    return step.removeExtraSpaces ? LeadingSpace::DropOfEach
           : step.addDummyPrefix  ? LeadingSpace::DropOne
                                  : LeadingSpace::Keep;
  }
  std::string unknownText; ///< what the unknown token prints as; empty: its own text

  /// The longest piece: what finding one may cost for each character of a text.
  static constexpr size_t maxPieceBytes = 1024;
};

} // namespace kernelforge
