#include "kernelforge/llm/Graphemes.h"

#include "kernelforge/llm/CodePointRanges.h"
#include "kernelforge/support/Utf8.h"

#include <cstdint>

namespace kernelforge {

namespace {

enum class GraphemeClass : uint8_t {
  Other,
  Control,     ///< stands alone
  Extend,      ///< a mark: goes with what is before it
  Linker,      ///< a mark that ties two consonants together
  NonJoiner,   ///< a mark that keeps two consonants apart
  Joiner,      ///< a mark that ties two pictographs together
  SpacingMark, ///< goes with what is before it, and keeps apart what it is between
  Prepend,     ///< goes with what is behind it
  Leading,     ///< Hangul's, of which syllables are made
  Vowel,
  Trailing,
  Syllable,
  Pictograph,
  Consonant, ///< of the Indic scripts that tie consonants together
  Flag       ///< regional indicators, of which two are a flag
};

struct GraphemeRange {
  char32_t first, last;
  GraphemeClass kind;
};

GraphemeClass graphemeClass(char32_t c) {
  using enum GraphemeClass;
  static constexpr GraphemeRange ranges[] = {
#include "kernelforge/llm/GraphemeClasses.inc"
  };
  // They cannot be asked of `tokenizers`, but are the same in all versions of Unicode.
  constexpr char32_t firstFlag = 0x1f1e6, lastFlag = 0x1f1ff;
  if (c >= firstFlag && c <= lastFlag)
    return Flag;
  const GraphemeRange *range = findRange(ranges, c);
  return range ? range->kind : Other;
}

/// Whether a syllable has no trailing consonant yet, as the first of the 28 of each beginning.
bool isOpenSyllable(char32_t c) { return (c - 0xac00) % 28 == 0; }

/// The part of a grapheme that has been read.
class Grapheme {
public:
  explicit Grapheme(char32_t c) { add(c, graphemeClass(c)); }

  /// Adds `c` if it belongs to the grapheme.
  bool take(char32_t c) {
    const GraphemeClass kind = graphemeClass(c);
    const bool isPart = belongs(c, kind);
    if (isPart)
      add(c, kind);
    return isPart;
  }

private:
  using enum GraphemeClass;

  static bool isMark(GraphemeClass kind) {
    return kind == Extend || kind == Linker || kind == NonJoiner;
  }

  bool belongs(char32_t c, GraphemeClass kind) const {
    if (last == Control || kind == Control)
      return lastCharacter == '\r' && c == '\n';
    if (isMark(kind) || kind == Joiner || kind == SpacingMark || last == Prepend)
      return true;
    const bool isOpen = last == Syllable && isOpenSyllable(lastCharacter);
    switch (kind) {
    case Leading:
    case Syllable:
      return last == Leading;
    case Vowel:
      return last == Leading || last == Vowel || isOpen;
    case Trailing:
      return last == Vowel || last == Trailing || last == Syllable;
    case Pictograph:
      return joinsPictograph;
    case Consonant:
      return behindConsonant && isLinked;
    case Flag:
      return isHalfFlag;
    default:
      return false;
    }
  }

  void add(char32_t c, GraphemeClass kind) {
    joinsPictograph = behindPictograph && kind == Joiner;
    behindPictograph = kind == Pictograph || (behindPictograph && isMark(kind));
    isHalfFlag = kind == Flag && !isHalfFlag;
    isLinked = (isLinked && kind != Consonant) || kind == Linker;
    behindConsonant = kind == Consonant ||
                      (behindConsonant && (kind == Extend || kind == Linker || kind == Joiner));
    last = kind;
    lastCharacter = c;
  }

  GraphemeClass last = Other;
  char32_t lastCharacter = 0;
  bool behindPictograph = false, joinsPictograph = false; ///< marks between, then a joiner
  bool behindConsonant = false, isLinked = false;         ///< marks between, of which one links
  bool isHalfFlag = false;
};

} // namespace

void forEachGrapheme(std::string_view text, const std::function<void(std::string_view)> &use) {
  while (!text.empty()) {
    Utf8Step step = decodeUtf8(text);
    Grapheme grapheme(step.codePoint);
    size_t end = step.length;
    for (; end < text.size(); end += step.length) {
      step = decodeUtf8(text.substr(end));
      if (!grapheme.take(step.codePoint))
        break;
    }
    use(text.substr(0, end));
    text.remove_prefix(end);
  }
}

} // namespace kernelforge
