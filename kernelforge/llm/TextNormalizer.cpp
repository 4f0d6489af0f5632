#include "kernelforge/llm/TextNormalizer.h"

#include "kernelforge/llm/Graphemes.h"
#include "kernelforge/llm/Normalizer.h"
#include "kernelforge/llm/SplitPattern.h"
#include "kernelforge/support/Utf8.h"

#include <algorithm>

namespace kernelforge {

namespace {

bool isTooLong(const std::string &text) { return text.size() > TextNormalizer::maxBytes; }

/// Each `from`, which is not empty, by `to`.
std::string replaceAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (size_t at = 0;;) {
    const size_t found = text.find(from, at);
    out += text.substr(at, found - at);
    if (found == text.npos || isTooLong(out))
      return out;
    out += to;
    at = found + from.size();
  }
}

std::string replaceRunsOfSpaces(std::string_view text, std::string_view to) {
  std::string out;
  for (size_t at = 0; at < text.size() && !isTooLong(out);) {
    const size_t end = std::min(text.find_first_not_of(' ', at), text.size());
    if (end - at >= 2) {
      out += to;
      at = end;
    } else {
      out += text[at++];
    }
  }
  return out;
}

std::string_view strip(std::string_view text, bool left, bool right) {
  if (left)
    text.remove_prefix(spaceAtBegin(text));
  return right ? text.substr(0, spaceBefore(text, 0, text.size())) : text;
}

std::string_view trimSpaces(std::string_view text, TextPart part) {
  while (part.isFirst && text.starts_with(' '))
    text.remove_prefix(1);
  while (part.isLast && text.ends_with(' '))
    text.remove_suffix(1);
  return text;
}

/// The table as `tokenizers` applies it: a grapheme of less than six bytes becomes what its
/// shortest beginning in the table becomes; else its characters are looked up one by one.
std::string byGraphemes(const Charsmap &map, std::string_view text) {
  std::string out;
  out.reserve(text.size());
  forEachGrapheme(text, [&](std::string_view grapheme) {
    if (grapheme.size() < 6 && !isTooLong(out))
      if (const auto whole = map.shortest(grapheme); whole.length > 0) {
        out += whole.replacement;
        return;
      }
    while (!grapheme.empty() && !isTooLong(out)) {
      const std::string_view character = grapheme.substr(0, decodeUtf8(grapheme).length);
      const auto match = map.shortest(character);
      out += match.length > 0 ? match.replacement : character;
      grapheme.remove_prefix(character.size());
    }
  });
  return out;
}

} // namespace

std::string TextNormalizer::sentencePiece(const NormalizerStep &step, std::string_view text,
                                          TextPart part) const {
  const std::string_view space = step.escapeSpaces ? pieceSpace : " ";
  // What the beginning of the rest becomes; removes it from the rest.
  auto next = [&](std::string_view &rest) {
    size_t length = untouched.longestPrefix(rest);
    std::string_view becomes = rest.substr(0, length);
    if (length == 0 && step.charsmap) {
      const Charsmap::Match match = step.charsmap->longest(rest);
      length = match.length;
      becomes = match.replacement;
    }
    if (length == 0) {
      length = decodeUtf8(rest).length;
      becomes = rest.substr(0, length);
    }
    rest.remove_prefix(length);
    return becomes;
  };
  std::string out;
  std::string_view rest = text;
  bool dropsSpaces = step.removeExtraSpaces && part.isFirst;
  while (dropsSpaces && !rest.empty()) {
    std::string_view after = rest;
    if (next(after) != " ")
      break;
    rest = after;
  }
  if (rest.empty())
    return out;
  if (step.addDummyPrefix && !step.spaceIsSuffix && part.isFirst)
    out += space;
  while (!rest.empty() && !isTooLong(out)) {
    std::string_view becomes = next(rest);
    while (dropsSpaces && becomes.starts_with(' '))
      becomes.remove_prefix(1);
    for (char c : becomes)
      if (c == ' ')
        out += space;
      else
        out += c;
    if (!becomes.empty())
      dropsSpaces = step.removeExtraSpaces && becomes.ends_with(' ');
  }
  if (step.removeExtraSpaces && part.isLast)
    while (out.ends_with(space))
      out.resize(out.size() - space.size());
  if (step.addDummyPrefix && step.spaceIsSuffix && part.isLast)
    out += space;
  return out;
}

std::string TextNormalizer::apply(std::string_view original, TextPart part,
                                  bool &keepsBegin) const {
  std::string text(original);
  for (const NormalizerStep &step : steps) {
    if (isTooLong(text))
      break;
    switch (step.kind) {
    case NormalizerStep::Kind::SentencePiece:
      text = sentencePiece(step, text, part);
      break;
    case NormalizerStep::Kind::Charsmap:
      text = byGraphemes(*step.charsmap, text);
      break;
    case NormalizerStep::Kind::Compose:
      text = composeUtf8(text);
      break;
    case NormalizerStep::Kind::ComposeCompatibility:
      text = composeCompatibilityUtf8(text);
      break;
    case NormalizerStep::Kind::Lowercase:
      text = lowercaseUtf8(text);
      break;
    case NormalizerStep::Kind::Prepend:
      if (part.isFirst && !text.empty())
        text.insert(0, step.to);
      break;
    case NormalizerStep::Kind::Replace:
      text = replaceAll(text, step.from, step.to);
      break;
    case NormalizerStep::Kind::ReplaceSpaces:
      text = replaceRunsOfSpaces(text, step.to);
      break;
    case NormalizerStep::Kind::TrimSpaces:
      keepsBegin &= !part.isFirst || !text.starts_with(' ');
      text = trimSpaces(text, part);
      break;
    case NormalizerStep::Kind::DoubleSpace:
      if (part.isFirst && text.starts_with(pieceSpace))
        text.insert(0, pieceSpace);
      break;
    case NormalizerStep::Kind::Strip:
      keepsBegin &= !part.isFirst || !step.left || spaceAtBegin(text) == 0;
      text = strip(text, step.left && part.isFirst, step.right && part.isLast);
      break;
    }
  }
  return text;
}

size_t spaceAtBegin(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Step step = decodeUtf8(text.substr(at));
    if (charClass(step.codePoint) != CharClass::Space)
      break;
    at += step.length;
  }
  return at;
}

size_t spaceBefore(std::string_view text, size_t begin, size_t at) {
  while (at > begin) {
    size_t before = at - 1;
    while (before > begin && (static_cast<uint8_t>(text[before]) & 0xc0) == 0x80)
      --before;
    if (charClass(decodeUtf8(text.substr(before)).codePoint) != CharClass::Space)
      break;
    at = before;
  }
  return at;
}

using UseWord = std::function<void(std::string_view, bool)>;

static void cutMetaspace(const CutStep &cut, std::string_view text, bool isFirst,
                         const UseWord &use) {
  std::string spaced = replaceAll(text, " ", pieceSpace);
  const bool isWanted =
      cut.prefix == CutStep::Prefix::Always || (cut.prefix == CutStep::Prefix::First && isFirst);
  if (isWanted && !spaced.starts_with(pieceSpace))
    spaced.insert(0, pieceSpace);
  if (!cut.split)
    return use(spaced, isFirst);
  std::string_view rest = spaced;
  for (bool isFirstWord = isFirst; !rest.empty(); isFirstWord = false) {
    const size_t end = std::min(rest.find(pieceSpace, 1), rest.size());
    use(rest.substr(0, end), isFirstWord);
    rest.remove_prefix(end);
  }
}

static void cutWhitespace(std::string_view text, bool isFirst, const UseWord &use) {
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t space = spaceAtBegin(text.substr(at));
    if (space > 0) {
      if (at > begin)
        use(text.substr(begin, at - begin), isFirst && begin == 0);
      begin = at + space;
    }
    at += space > 0 ? space : decodeUtf8(text.substr(at)).length;
  }
  if (begin < text.size())
    use(text.substr(begin), isFirst && begin == 0);
}

static void cutIsolate(const CutStep &cut, std::string_view text, bool isFirst,
                       const UseWord &use) {
  size_t begin = 0;
  auto give = [&](size_t end) {
    if (end > begin)
      use(text.substr(begin, end - begin), isFirst && begin == 0);
    begin = end;
  };
  for (size_t at = 0; at < text.size();) {
    const size_t length = cut.literals.longestPrefix(text.substr(at));
    if (length > 0) {
      give(at);
      give(at + length);
    }
    at += std::max<size_t>(length, 1);
  }
  give(text.size());
}

void forEachWord(const CutStep &cut, std::string_view text, bool isFirst, const UseWord &use) {
  switch (cut.kind) {
  case CutStep::Kind::Metaspace:
    return cutMetaspace(cut, text, isFirst, use);
  case CutStep::Kind::Whitespace:
    return cutWhitespace(text, isFirst, use);
  case CutStep::Kind::Isolate:
    return cutIsolate(cut, text, isFirst, use);
  }
}

} // namespace kernelforge
