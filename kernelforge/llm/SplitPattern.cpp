#include "kernelforge/llm/SplitPattern.h"

#include "kernelforge/llm/CodePointRanges.h"
#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <limits>
#include <utility>

namespace kernelforge {

//===----------------------------------------------------------------------===//
// Classes
//===----------------------------------------------------------------------===//

namespace {

struct ClassRange {
  char32_t first, last;
  CharClass kind;
};

constexpr CharClass U = CharClass::UpperLetter, L = CharClass::LowerLetter,
                    O = CharClass::OtherLetter, M = CharClass::Mark, N = CharClass::Number,
                    S = CharClass::Space, P = CharClass::Punctuation, Y = CharClass::Symbol,
                    D = CharClass::NumericOther;
// Classes come from a table of ours and not from the system's Unicode library: ids must not depend
// on which version of Unicode a system has.
constexpr ClassRange classRanges[] = {
#include "kernelforge/llm/UnicodeClasses.inc"
};

constexpr uint32_t bit(CharClass kind) { return uint32_t(1) << static_cast<unsigned>(kind); }

constexpr uint32_t letters = bit(U) | bit(L) | bit(O);

/// The classes that \p{NAME} or \s stands for.
uint32_t classesNamed(std::string_view name) {
  constexpr std::pair<std::string_view, uint32_t> known[] = {
      {"L", letters}, {"Lu", bit(U)}, {"Lt", bit(U)},  {"Ll", bit(L)},
      {"Lm", bit(O)}, {"Lo", bit(O)}, {"M", bit(M)},   {"N", bit(N)},
      {"P", bit(P)},  {"S", bit(Y)},  {"\\s", bit(S)}, {"Numeric", bit(N) | bit(D)}};
  for (const auto &[text, classes] : known)
    if (text == name)
      return classes;
  assert(false && "a class without a table");
  return 0;
}

/// As (?i:) compares: the letters of ASCII, and the long s, which folds to s.
char32_t folded(char32_t c) {
  if (c >= 'A' && c <= 'Z')
    return c + ('a' - 'A');
  return c == 0x17f ? U's' : c;
}

} // namespace

CharClass charClass(char32_t c) {
  const ClassRange *range = findRange(classRanges, c);
  return range ? range->kind : CharClass::Other;
}

bool SplitPattern::Set::contains(char32_t c) const {
  const bool inRange =
      std::ranges::any_of(ranges, [&](const auto &r) { return c >= r.first && c <= r.second; });
  return (inRange || (classes != 0 && (classes & bit(charClass(c))) != 0)) != negated;
}

//===----------------------------------------------------------------------===//
// Reading a pattern
//===----------------------------------------------------------------------===//

class SplitPattern::Parser {
public:
  explicit Parser(std::string_view regex) : rest(regex) {}

  std::vector<Items> alternatives() {
    std::vector<Items> all(1);
    while (!rest.empty()) {
      if (take("|"))
        all.emplace_back();
      else
        all.back().push_back(item());
    }
    return all;
  }

private:
  bool take(std::string_view text) {
    if (!rest.starts_with(text))
      return false;
    rest.remove_prefix(text.size());
    return true;
  }
  char32_t character() {
    const Utf8Step step = decodeUtf8(rest);
    rest.remove_prefix(step.length);
    return step.codePoint;
  }

  /// A character, an escaped one, or a class, into a set.
  void member(Set &set) {
    if (take("\\p{")) {
      const size_t end = rest.find('}');
      set.classes |= classesNamed(rest.substr(0, end));
      rest.remove_prefix(end + 1);
      return;
    }
    if (take("\\s")) {
      set.classes |= classesNamed("\\s");
      return;
    }
    const char32_t first = literal();
    const bool range = rest.size() > 1 && rest[0] == '-' && rest[1] != ']';
    if (range)
      take("-");
    set.ranges.emplace_back(first, range ? literal() : first);
  }
  char32_t literal() {
    if (!take("\\"))
      return character();
    const char32_t c = character();
    return c == 'r' ? U'\r' : c == 'n' ? U'\n' : c == 't' ? U'\t' : c;
  }

  Item item() {
    Item item;
    if (take("(?!\\S)")) {
      item.kind = Item::Kind::BeforeSpaceOrEnd;
      return item;
    }
    if (take("(?i:")) {
      item.kind = Item::Kind::Words;
      item.words.emplace_back();
      while (!take(")")) {
        if (take("|"))
          item.words.emplace_back();
        else
          item.words.back().push_back(literal());
      }
      item.least = take("?") ? 0 : 1;
      return item;
    }
    if (take("[")) {
      item.set.negated = take("^");
      while (!take("]"))
        member(item.set);
    } else {
      assert(rest[0] != '(' && rest[0] != '.' && "syntax that patterns do not have");
      const char32_t before = rest[0] == '\\' ? 0 : decodeUtf8(rest).codePoint;
      if (before != 0) // alone, a hyphen after it is a character of its own
        item.set.ranges.emplace_back(before, before), character();
      else
        member(item.set);
    }
    repetition(item);
    return item;
  }

  void repetition(Item &item) {
    constexpr size_t any = std::numeric_limits<size_t>::max();
    if (take("?"))
      item.least = 0;
    else if (take("*"))
      item.least = 0, item.most = any;
    else if (take("+"))
      item.most = any;
    else if (take("{"))
      item.least = number(), take(","), item.most = number(), take("}");
  }
  size_t number() {
    size_t value = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    rest.remove_prefix(static_cast<size_t>(end - rest.data()));
    return value;
  }

  std::string_view rest;
};

SplitPattern::SplitPattern(std::string_view regex) : alternatives(Parser(regex).alternatives()) {}

//===----------------------------------------------------------------------===//
// Matching
//===----------------------------------------------------------------------===//

/// Where the character before byte `at` begins.
static size_t before(std::string_view text, size_t at) {
  --at;
  while ((static_cast<uint8_t>(text[at]) & 0xC0) == 0x80)
    --at;
  return at;
}

/// Matches the items from `index` on. Characters are taken greedily and given back one by one: of
/// patterns whose neighbours overlap (\s*[\r\n]+, or letters of two cases that share some) the
/// first that is given back and fits ends it.
bool SplitPattern::matchItems(const Items &items, size_t index, std::string_view text, size_t at,
                              size_t &end) {
  if (index == items.size()) {
    end = at;
    return true;
  }
  const Item &item = items[index];
  switch (item.kind) {
  case Item::Kind::BeforeSpaceOrEnd:
    return (at == text.size() || charClass(decodeUtf8(text.substr(at)).codePoint) == S) &&
           matchItems(items, index + 1, text, at, end);
  case Item::Kind::Words:
    for (const std::u32string &word : item.words) {
      size_t after = at;
      const bool same = std::ranges::all_of(word, [&](char32_t c) {
        if (after >= text.size())
          return false;
        const Utf8Step step = decodeUtf8(text.substr(after));
        after += step.length;
        return folded(step.codePoint) == c;
      });
      if (same && matchItems(items, index + 1, text, after, end))
        return true;
    }
    return item.least == 0 && matchItems(items, index + 1, text, at, end);
  case Item::Kind::Characters:
    break;
  }
  size_t count = 0, after = at;
  while (count < item.most && after < text.size()) {
    const Utf8Step step = decodeUtf8(text.substr(after));
    if (!item.set.contains(step.codePoint))
      break;
    after += step.length;
    ++count;
  }
  for (; count >= item.least; --count) {
    if (matchItems(items, index + 1, text, after, end))
      return true;
    if (count == 0)
      break;
    after = before(text, after);
  }
  return false;
}

size_t SplitPattern::match(std::string_view text, size_t at) const {
  for (const Items &items : alternatives)
    if (size_t end = at; matchItems(items, 0, text, at, end) && end > at)
      return end;
  return at;
}

} // namespace kernelforge
