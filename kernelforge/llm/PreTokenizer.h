// Cuts text into the pieces within which byte-level BPE may merge.
#pragma once

#include "kernelforge/llm/SplitPattern.h"
#include "kernelforge/support/Error.h"

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// How a family of tokenizers cuts text: by its regular expressions one after another, each within
/// the pieces of the one before. A match is a piece, and so is what lies between two.
class PreTokenizer {
public:
  /// The one that GGUF's tokenizer.ggml.pre names; an unknown name is refused by name. `where`
  /// names the file in the message.
  static Expected<const PreTokenizer *> byName(std::string_view name, std::string_view where);

  /// The one whose expressions these are, word for word, as a tokenizer.json has them; null where
  /// there is none.
  static const PreTokenizer *byExpressions(std::span<const std::string> regexes);

  /// "gpt2, smollm, ...".
  static std::string names();

  std::string_view name() const;
  const std::vector<SplitPattern> &patterns() const { return stages; }
  // What is usual with it, where a GGUF file does not say.
  /// Whether a piece that is a token of the vocabulary is taken before anything is merged.
  bool ignoresMerges() const;
  /// Whether characters are composed (NFC) before.
  bool composes() const;
  /// Whether BOS stands before a text.
  bool addsBos() const;

private:
  struct Definition;
  explicit PreTokenizer(const Definition &definition);
  static const std::vector<PreTokenizer> &all();

  const Definition *definition;
  std::vector<SplitPattern> stages;
};

/// Yields the pieces of a text in order; together they are the text.
class PreTokenScanner {
public:
  /// `text` must be valid UTF-8 and outlive the scanner, as `kind` must.
  PreTokenScanner(const PreTokenizer &kind, std::string_view text)
      : patterns(kind.patterns()), text(text), stages(patterns.size()) {}

  /// Puts the next piece into `piece`; false at the end.
  bool next(std::string_view &piece) { return next(patterns.size(), piece); }

private:
  /// How far one expression has come in a piece of the one before.
  struct Stage {
    std::string_view piece;
    size_t at = 0;
    size_t first = 0, end = 0; ///< of the next match, where it is known
    bool isKnown = false;
  };
  /// The next piece after the first `count` expressions.
  bool next(size_t count, std::string_view &piece);

  const std::vector<SplitPattern> &patterns;
  std::string_view text;
  bool isTaken = false; ///< the text as a whole
  std::vector<Stage> stages;
};

} // namespace kernelforge
