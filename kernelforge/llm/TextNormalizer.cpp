#include "kernelforge/llm/TextNormalizer.h"

#include "kernelforge/llm/BeginTracker.h"
#include "kernelforge/llm/Graphemes.h"
#include "kernelforge/llm/Normalizer.h"
#include "kernelforge/llm/SplitPattern.h"
#include "kernelforge/support/Utf8.h"

#include <algorithm>

namespace kernelforge {

namespace {

bool isTooLong(const std::string &text) { return text.size() > TextNormalizer::maxBytes; }

/// Each `from`, which is not empty, by `to`.
std::string replaceAll(std::string_view text, std::string_view from, std::string_view to,
                       BeginTracker &tracker) {
  std::string out;
  for (size_t at = 0;;) {
    const size_t found = text.find(from, at);
    const std::string_view kept = text.substr(at, found - at);
    out += kept;
    tracker.put(kept);
    if (found == text.npos || isTooLong(out))
      return out;
    out += to;
    tracker.skip(from);
    tracker.add(to);
    at = found + from.size();
  }
}

std::string replaceRunsOfSpaces(std::string_view text, std::string_view to, BeginTracker &tracker) {
  std::string out;
  for (size_t at = 0; at < text.size() && !isTooLong(out);) {
    const size_t end = std::min(text.find_first_not_of(' ', at), text.size());
    if (end - at >= 2) {
      out += to;
      tracker.skip(text.substr(at, end - at));
      tracker.add(to);
      at = end;
    } else {
      const std::string_view character = text.substr(at, decodeUtf8(text.substr(at)).length);
      out += character;
      tracker.put(0);
      at += character.size();
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
std::string byGraphemes(const Charsmap &map, std::string_view text, BeginTracker &tracker) {
  std::string out;
  out.reserve(text.size());
  auto replace = [&](std::string_view from, std::string_view to) {
    out += to;
    tracker.replace(from, to);
  };
  forEachGrapheme(text, [&](std::string_view grapheme) {
    if (grapheme.size() < 6 && !isTooLong(out))
      if (const auto whole = map.shortest(grapheme); whole.length > 0)
        return replace(grapheme, whole.replacement);
    while (!grapheme.empty() && !isTooLong(out)) {
      const std::string_view character = grapheme.substr(0, decodeUtf8(grapheme).length);
      const auto match = map.shortest(character);
      replace(character, match.length > 0 ? match.replacement : character);
      grapheme.remove_prefix(character.size());
    }
  });
  return out;
}

/// The text's beginning of that many characters.
std::string_view firstCharacters(std::string_view text, size_t count) {
  size_t size = 0;
  for (; count > 0 && size < text.size(); --count)
    size += decodeUtf8(text.substr(size)).length;
  return text.substr(0, size);
}

size_t countCharacters(std::string_view text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; }));
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

/// What a step has put in front stands for the first character, as what was there.
static void insertInFront(std::string &text, std::string_view more, size_t &ofFirst) {
  text.insert(0, more);
  if (ofFirst > 0)
    ofFirst += countCharacters(more);
}

/// Less characters at the beginning, and perhaps at the end.
static void cutTo(std::string &text, std::string_view part, size_t &ofFirst) {
  const auto cut = static_cast<size_t>(part.data() - text.data());
  ofFirst -= std::min(ofFirst, countCharacters(std::string_view(text).substr(0, cut)));
  text = std::string(part);
}

std::string TextNormalizer::apply(std::string_view original, TextPart part,
                                  size_t &bytesOfFirst) const {
  std::string text(original);
  size_t ofFirst = tracksFirst && part.isFirst && !text.empty() ? 1 : 0; // in characters
  for (const NormalizerStep &step : steps) {
    if (isTooLong(text))
      break;
    BeginTracker tracker(ofFirst);
    switch (step.kind) {
    case NormalizerStep::Kind::SentencePiece:
      text = sentencePiece(step, text, part);
      break;
    case NormalizerStep::Kind::Charsmap:
      text = byGraphemes(*step.charsmap, text, tracker);
      ofFirst = tracker.finish();
      break;
    case NormalizerStep::Kind::Compose:
      ofFirst = trackComposed(text, ofFirst, /*compatibility=*/false);
      text = composeUtf8(text);
      break;
    case NormalizerStep::Kind::ComposeCompatibility:
      ofFirst = trackComposed(text, ofFirst, /*compatibility=*/true);
      text = composeCompatibilityUtf8(text);
      break;
    case NormalizerStep::Kind::Lowercase:
      ofFirst = countCharacters(lowercaseUtf8(firstCharacters(text, ofFirst)));
      text = lowercaseUtf8(text);
      break;
    case NormalizerStep::Kind::Prepend:
      if (part.isFirst && !text.empty())
        insertInFront(text, step.to, ofFirst);
      break;
    case NormalizerStep::Kind::Replace:
      text = replaceAll(text, step.from, step.to, tracker);
      ofFirst = tracker.finish();
      break;
    case NormalizerStep::Kind::ReplaceSpaces:
      text = replaceRunsOfSpaces(text, step.to, tracker);
      ofFirst = tracker.finish();
      break;
    case NormalizerStep::Kind::TrimSpaces:
      cutTo(text, trimSpaces(text, part), ofFirst);
      break;
    case NormalizerStep::Kind::DoubleSpace:
      if (part.isFirst && text.starts_with(pieceSpace))
        insertInFront(text, pieceSpace, ofFirst);
      break;
    case NormalizerStep::Kind::Strip:
      cutTo(text, strip(text, step.left && part.isFirst, step.right && part.isLast), ofFirst);
      break;
    }
  }
  bytesOfFirst = firstCharacters(text, ofFirst).size();
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

using UseWord = std::function<void(std::string_view, size_t)>;

static void cutMetaspace(const CutStep &cut, std::string_view text, size_t ofFirst,
                         const UseWord &use) {
  std::string spaced;
  for (char c : text)
    if (c == ' ')
      spaced += pieceSpace;
    else
      spaced += c;
  const bool isWanted = cut.prefix == CutStep::Prefix::Always ||
                        (cut.prefix == CutStep::Prefix::First && ofFirst > 0);
  if (isWanted && !spaced.starts_with(pieceSpace))
    spaced.insert(0, pieceSpace);
  if (!cut.split)
    return use(spaced, ofFirst);
  for (std::string_view rest = spaced; !rest.empty(); ofFirst = 0) {
    const size_t end = std::min(rest.find(pieceSpace, 1), rest.size());
    use(rest.substr(0, end), ofFirst);
    rest.remove_prefix(end);
  }
}

static void cutWhitespace(std::string_view text, size_t ofFirst, const UseWord &use) {
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t space = spaceAtBegin(text.substr(at));
    if (space > 0) {
      if (at > begin)
        use(text.substr(begin, at - begin), ofFirst - std::min(ofFirst, begin));
      begin = at + space;
    }
    at += space > 0 ? space : decodeUtf8(text.substr(at)).length;
  }
  if (begin < text.size())
    use(text.substr(begin), ofFirst - std::min(ofFirst, begin));
}

static void cutIsolate(const CutStep &cut, std::string_view text, size_t ofFirst,
                       const UseWord &use) {
  size_t begin = 0;
  auto give = [&](size_t end) {
    if (end > begin)
      use(text.substr(begin, end - begin), ofFirst - std::min(ofFirst, begin));
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

void forEachWord(const CutStep &cut, std::string_view text, size_t ofFirst, const UseWord &use) {
  switch (cut.kind) {
  case CutStep::Kind::Metaspace:
    return cutMetaspace(cut, text, ofFirst, use);
  case CutStep::Kind::Whitespace:
    return cutWhitespace(text, ofFirst, use);
  case CutStep::Kind::Isolate:
    return cutIsolate(cut, text, ofFirst, use);
  }
}

} // namespace kernelforge
