// The regular expressions that tokenizers cut text with, as far as theirs go: alternatives of
// single characters, classes, repetitions and short words. What they say is kept as text, as the
// models' own files have it. Those of this program's take time that is linear in the text: what a
// repetition went through in vain is part of the piece that another alternative then finds. Others
// might not, so that none is taken from a file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// What patterns ask about a code point.
enum class CharClass : uint8_t {
  Other,
  UpperLetter, ///< \p{Lu}, \p{Lt}
  LowerLetter, ///< \p{Ll}
  OtherLetter, ///< \p{Lm}, \p{Lo}
  Mark,        ///< \p{M}
  Number,      ///< \p{N}
  Space,       ///< White_Space
  Punctuation, ///< \p{P}
  Symbol,      ///< \p{S}
  /// Numeric for the splitting of digits but not yet \p{N}: the reference implementation follows
  /// two versions of Unicode. \p{Numeric}, a name of this program's own, is both.
  NumericOther
};
CharClass charClass(char32_t codePoint);

/// One regular expression. Its syntax: | between alternatives; literal characters, some escaped;
/// classes in brackets of characters, ranges, \s and \p{...}, or one of these alone; after a
/// character ?, *, + or {m,n}; (?i:a|b) of words, also with ?; and (?!\S). Names of \p are L, Lu,
/// Lt, Ll, Lm, Lo, M, N, P and S, where Lu and Lt mean both of them, and so do Lm and Lo.
class SplitPattern {
public:
  /// `regex` is one of this program's own.
  explicit SplitPattern(std::string_view regex);

  /// The end of the match that begins at byte `at` of `text` and looks no further than it; `at`
  /// where there is none. `text` is valid UTF-8.
  size_t match(std::string_view text, size_t at) const;

private:
  /// A set of code points: classes as bits, and ranges.
  struct Set {
    uint32_t classes = 0;
    std::vector<std::pair<char32_t, char32_t>> ranges;
    bool negated = false;
    bool contains(char32_t c) const;
  };
  /// A step of an alternative: characters of a set, one of some words in whatever case, or that no
  /// character but white space follows.
  struct Item {
    enum class Kind : uint8_t { Characters, Words, BeforeSpaceOrEnd } kind = Kind::Characters;
    Set set;
    size_t least = 1, most = 1; ///< of Words: 0 or 1, and 1
    std::vector<std::u32string> words;
  };
  using Items = std::vector<Item>;
  class Parser;

  static bool matchItems(const Items &items, size_t index, std::string_view text, size_t at,
                         size_t &end);

  std::vector<Items> alternatives;
};

} // namespace kernelforge
