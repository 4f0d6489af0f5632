#include "kernelforge/llm/PreTokenizer.h"

#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <fmt/format.h>
#include <iterator>

namespace kernelforge {

namespace {

struct ClassRange {
  char32_t first, last;
  CharClass kind;
};

constexpr CharClass L = CharClass::Letter, N = CharClass::Number, S = CharClass::Space,
                    D = CharClass::NumericOther;
// Classes come from a table of ours and not from the system's Unicode library: ids must not depend
// on which version of Unicode a system has.
constexpr ClassRange classRanges[] = {
#include "kernelforge/llm/UnicodeClasses.inc"
};

/// The length of 's 't 'm 'd 're 've 'll at `at`, or 0.
size_t contractionLength(std::string_view text, size_t at) {
  if (text[at] != '\'' || at + 1 >= text.size())
    return 0;
  char a = text[at + 1];
  if (a == 's' || a == 't' || a == 'm' || a == 'd')
    return 2;
  if (at + 2 >= text.size())
    return 0;
  char b = text[at + 2];
  return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

struct Classified {
  CharClass kind;
  size_t length;
};
Classified classAt(std::string_view text, size_t at) {
  Utf8Step step = decodeUtf8(text.substr(at));
  return {charClass(step.codePoint), step.length};
}

/// The class that the gpt2 pattern sees: it knows nothing of the digits' splitting.
CharClass gpt2Class(CharClass kind) {
  return kind == CharClass::NumericOther ? CharClass::Other : kind;
}

} // namespace

CharClass charClass(char32_t c) {
  auto next = std::upper_bound(std::begin(classRanges), std::end(classRanges), c,
                               [](char32_t c, const ClassRange &r) { return c < r.first; });
  if (next == std::begin(classRanges))
    return CharClass::Other;
  const ClassRange &range = *std::prev(next);
  return c <= range.last ? range.kind : CharClass::Other;
}

Expected<PreTokenizer> preTokenizerByName(std::string_view name, std::string_view where) {
  if (name == "gpt2" || name == "gpt-2")
    return PreTokenizer::Gpt2;
  if (name == "smollm")
    return PreTokenizer::SmolLm;
  return unusable("tokenizer is not usable", std::string(where),
                  name.empty() ? std::string("it names no pre-tokenizer")
                               : fmt::format("pre-tokenizer \"{}\" is not supported", name),
                  "supported are gpt2 and smollm");
}

size_t PreTokenScanner::runEnd(size_t from, CharClass wanted) const {
  size_t end = from;
  while (end < limit) {
    Classified here = classAt(text, end);
    if (gpt2Class(here.kind) != wanted)
      break;
    end += here.length;
  }
  return end;
}

/// The end of the gpt2 piece that begins at `from`, looking no further than `limit`.
size_t PreTokenScanner::gpt2End(size_t from) const {
  if (size_t length = contractionLength(text.substr(0, limit), from))
    return from + length;
  // " ?X+": one space may stand before a run of letters, of numbers, or of other characters.
  size_t start = text[from] == ' ' && from + 1 < limit ? from + 1 : from;
  CharClass kind = gpt2Class(classAt(text, start).kind);
  if (kind != CharClass::Space)
    return runEnd(start, kind);
  // "\s+(?!\S)": a run of white space leaves its last character to what follows, if it has two.
  size_t end = runEnd(from, CharClass::Space);
  if (end == limit)
    return end;
  size_t last = end - 1;
  while ((static_cast<uint8_t>(text[last]) & 0xC0) == 0x80)
    --last;
  return last > from ? last : end;
}

/// The end of the numeric code point at `from`; `from` itself if there is none.
size_t PreTokenScanner::numericEnd(size_t from) const {
  Classified here = classAt(text, from);
  bool numeric = here.kind == CharClass::Number || here.kind == CharClass::NumericOther;
  return numeric ? from + here.length : from;
}

/// Puts `limit` at the end of what the gpt2 pattern may look at from `at` on: the text's end, or
/// the next numeric code point where those are split off.
void PreTokenScanner::findLimit() {
  limit = text.size();
  if (kind == PreTokenizer::SmolLm)
    for (limit = at; limit < text.size() && numericEnd(limit) == limit;)
      limit += decodeUtf8(text.substr(limit)).length;
}

bool PreTokenScanner::next(std::string_view &piece) {
  if (at >= text.size())
    return false;
  size_t end = at;
  if (at >= limit) {
    if (kind == PreTokenizer::SmolLm)
      end = numericEnd(at);
    if (end == at)
      findLimit();
  }
  if (end == at)
    end = gpt2End(at);
  piece = text.substr(at, end - at);
  at = end;
  return true;
}

} // namespace kernelforge
