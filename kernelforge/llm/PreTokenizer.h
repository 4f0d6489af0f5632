// Cuts text into the pieces within which byte-level BPE may merge. Hand-written scanners over code
// points, linear in the text whatever it holds: a backtracking regex here would be a way to hang a
// server.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstdint>
#include <string_view>

namespace kernelforge {

enum class PreTokenizer : uint8_t {
  /// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  Gpt2,
  /// Every numeric code point alone, then Gpt2 on what is between them.
  SmolLm
};

/// The pre-tokenizer that GGUF's tokenizer.ggml.pre names; an unknown name is refused by name.
/// `where` names the file in the message.
Expected<PreTokenizer> preTokenizerByName(std::string_view name, std::string_view where);

/// What the scanners ask about a code point.
enum class CharClass : uint8_t {
  Other,
  Letter, ///< \p{L}
  Number, ///< \p{N}
  Space,  ///< White_Space
  /// Numeric for the splitting of digits but not yet \p{N}: the reference implementation follows
  /// two versions of Unicode.
  NumericOther
};
CharClass charClass(char32_t codePoint);

/// Yields the pieces of a text in order; together they are the text.
class PreTokenScanner {
public:
  /// `text` must be valid UTF-8 and outlive the scanner.
  PreTokenScanner(PreTokenizer kind, std::string_view text) : kind(kind), text(text) {}

  /// Puts the next piece into `piece`; false at the end.
  bool next(std::string_view &piece);

private:
  void findLimit();
  size_t numericEnd(size_t from) const;
  size_t gpt2End(size_t from) const;
  size_t runEnd(size_t from, CharClass wanted) const;

  PreTokenizer kind;
  std::string_view text;
  size_t at = 0;
  size_t limit = 0; ///< how far the pattern may look from `at`; not above `at`: not known yet
};

} // namespace kernelforge
