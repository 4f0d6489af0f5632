#include "kernelforge/llm/template/Text.h"

#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

namespace kernelforge::chat {

namespace {

Utf8Step stepAt(const std::string &text, size_t at) {
  return decodeUtf8(std::string_view(text).substr(at));
}

/// The offset at which the code point before `end` begins.
size_t before(std::string_view text, size_t end) {
  do
    --end;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80);
  return end;
}

std::string toUtf8(const icu::UnicodeString &text) {
  std::string out;
  text.toUTF8String(out);
  return out;
}
icu::UnicodeString fromUtf8(std::string_view text) {
  return icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
}
std::string lowerBytes(std::string_view text) {
  return toUtf8(fromUtf8(text).toLower(icu::Locale::getRoot()));
}
std::string upperBytes(std::string_view text) {
  return toUtf8(fromUtf8(text).toUpper(icu::Locale::getRoot()));
}
std::string titleBytes(char32_t c) {
  std::string out;
  if (char32_t simple = u_totitle(static_cast<UChar32>(c)); simple != c) {
    appendUtf8(out, simple);
    return out;
  }
  // What has no single titlecase character may still have several ("ß" becomes "Ss").
  appendUtf8(out, c);
  return toUtf8(fromUtf8(out).toTitle(nullptr, icu::Locale::getRoot()));
}

/// The lower case of a word without its first character, of `first` bytes. The first character
/// counts as context: a sigma at a word's end depends on there being a letter before it.
std::string lowerAfterFirst(std::string_view word, size_t first) {
  return lowerBytes(word).substr(lowerBytes(word.substr(0, first)).size());
}

} // namespace

Text::Text(std::string text, bool fromUser) : bytes(std::move(text)) {
  if (fromUser)
    marks.assign(bytes.size(), '\1');
}

Text Text::substr(size_t begin, size_t length) const {
  Text out(bytes.substr(begin, length));
  if (!marks.empty())
    out.marks = marks.substr(begin, length);
  return out;
}

void Text::append(const Text &other) {
  if (!other.marks.empty() || !marks.empty()) {
    marks.resize(bytes.size(), '\0');
    if (other.marks.empty())
      marks.append(other.size(), '\0');
    else
      marks += other.marks;
  }
  bytes += other.bytes;
}

void Text::append(std::string_view trusted) {
  if (!marks.empty())
    marks.append(trusted.size(), '\0');
  bytes += trusted;
}

Text derived(std::string bytes, const Text &source) {
  return Text(std::move(bytes), source.anyUser());
}

bool isSpace(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

size_t countCodePoints(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
}

std::vector<size_t> codePointOffsets(std::string_view text) {
  std::vector<size_t> offsets;
  for (size_t i = 0; i < text.size(); ++i)
    if ((static_cast<uint8_t>(text[i]) & 0xC0) != 0x80)
      offsets.push_back(i);
  offsets.push_back(text.size());
  return offsets;
}

Text strip(const Text &text, Side side, const std::optional<std::string_view> &chars) {
  auto goes = [&](size_t at) {
    Utf8Step step = stepAt(text.bytes, at);
    if (!chars)
      return isSpace(step.codePoint);
    return chars->find(std::string_view(text.bytes).substr(at, step.length)) !=
           std::string_view::npos;
  };
  size_t begin = 0, end = text.size();
  if (side != Side::Right)
    while (begin < end && goes(begin))
      begin += stepAt(text.bytes, begin).length;
  if (side != Side::Left)
    while (end > begin) {
      size_t last = before(text.bytes, end);
      if (!goes(last))
        break;
      end = last;
    }
  return text.substr(begin, end - begin);
}

std::vector<Text> splitWhitespace(const Text &text, int64_t limit) {
  std::vector<Text> parts;
  size_t at = 0;
  auto skip = [&](bool space) {
    while (at < text.size()) {
      Utf8Step step = stepAt(text.bytes, at);
      if (isSpace(step.codePoint) != space)
        break;
      at += step.length;
    }
  };
  for (skip(true); at < text.size(); skip(true)) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.push_back(text.substr(at, text.size() - at));
      break;
    }
    size_t begin = at;
    skip(false);
    parts.push_back(text.substr(begin, at - begin));
  }
  return parts;
}

std::vector<Text> splitOn(const Text &text, std::string_view separator, int64_t limit,
                          bool fromRight) {
  std::vector<Text> parts;
  std::string_view bytes = text.bytes;
  size_t begin = 0, end = text.size();
  auto more = [&] { return limit < 0 || static_cast<int64_t>(parts.size()) < limit; };
  if (!fromRight) {
    for (size_t found; more() && (found = bytes.find(separator, begin)) != bytes.npos;
         begin = found + separator.size())
      parts.push_back(text.substr(begin, found - begin));
    parts.push_back(text.substr(begin, end - begin));
    return parts;
  }
  while (more() && end >= separator.size()) {
    size_t found = bytes.rfind(separator, end - separator.size());
    if (found == bytes.npos)
      break;
    size_t after = found + separator.size();
    parts.push_back(text.substr(after, end - after));
    end = found;
  }
  parts.push_back(text.substr(0, end));
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<Text> splitLines(const Text &text) {
  std::vector<Text> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    Utf8Step step = stepAt(text.bytes, at);
    char32_t c = step.codePoint;
    size_t after = at + step.length;
    if ((c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029) {
      if (c == '\r' && after < text.size() && text.bytes[after] == '\n')
        ++after;
      lines.push_back(text.substr(begin, at - begin));
      begin = after;
    }
    at = after;
  }
  if (begin < text.size())
    lines.push_back(text.substr(begin, text.size() - begin));
  return lines;
}

Text replaceAll(const Text &text, const Text &old, const Text &with, int64_t limit,
                Budget &budget) {
  Text out;
  auto put = [&](const Text &part) {
    budget.make(part.size());
    out.append(part);
  };
  int64_t done = 0;
  auto more = [&] { return limit < 0 || done < limit; };
  size_t begin = 0;
  if (old.size() == 0) {
    while (more()) {
      put(with);
      ++done;
      if (begin >= text.size())
        break;
      size_t length = stepAt(text.bytes, begin).length;
      put(text.substr(begin, length));
      begin += length;
    }
  } else {
    for (size_t found; more() && (found = text.bytes.find(old.bytes, begin)) != std::string::npos;
         begin = found + old.size(), ++done) {
      put(text.substr(begin, found - begin));
      put(with);
    }
  }
  put(text.substr(begin, text.size() - begin));
  return out;
}

Text upper(const Text &text) { return derived(upperBytes(text.bytes), text); }
Text lower(const Text &text) { return derived(lowerBytes(text.bytes), text); }

Text capitalize(const Text &text) {
  if (text.size() == 0)
    return text;
  Utf8Step first = stepAt(text.bytes, 0);
  return derived(titleBytes(first.codePoint) + lowerAfterFirst(text.bytes, first.length), text);
}

Text titleCase(const Text &text) {
  std::string out;
  std::string_view bytes = text.bytes;
  auto isCased = [](char32_t c) {
    return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_CASED);
  };
  for (size_t at = 0; at < bytes.size();) {
    Utf8Step first = decodeUtf8(bytes.substr(at));
    size_t end = at + first.length;
    if (isCased(first.codePoint)) {
      while (end < bytes.size()) {
        Utf8Step step = decodeUtf8(bytes.substr(end));
        if (!isCased(step.codePoint))
          break;
        end += step.length;
      }
      out += titleBytes(first.codePoint);
      out += lowerAfterFirst(bytes.substr(at, end - at), first.length);
    } else {
      out += bytes.substr(at, first.length);
    }
    at = end;
  }
  return derived(std::move(out), text);
}

Text titleWords(const Text &text) {
  std::string out;
  std::string_view bytes = text.bytes;
  auto separates = [](char32_t c) {
    return isSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  };
  for (size_t at = 0; at < bytes.size();) {
    Utf8Step first = decodeUtf8(bytes.substr(at));
    size_t end = at + first.length;
    if (separates(first.codePoint)) {
      out += bytes.substr(at, first.length);
    } else {
      while (end < bytes.size()) {
        Utf8Step step = decodeUtf8(bytes.substr(end));
        if (separates(step.codePoint))
          break;
        end += step.length;
      }
      out += upperBytes(bytes.substr(at, first.length));
      out += lowerBytes(bytes.substr(at + first.length, end - at - first.length));
    }
    at = end;
  }
  return derived(std::move(out), text);
}

Text reversed(const Text &text) {
  Text out;
  for (size_t end = text.size(); end > 0;) {
    size_t begin = before(text.bytes, end);
    out.append(text.substr(begin, end - begin));
    end = begin;
  }
  return out;
}

Text escapeHtml(const Text &text, Budget &budget) {
  std::string out;
  for (char c : text.bytes) {
    std::string_view entity;
    switch (c) {
    case '&':
      entity = "&amp;";
      break;
    case '<':
      entity = "&lt;";
      break;
    case '>':
      entity = "&gt;";
      break;
    case '"':
      entity = "&#34;";
      break;
    case '\'':
      entity = "&#39;";
      break;
    default:
      out.push_back(c);
    }
    out += entity;
  }
  budget.make(out.size());
  return derived(std::move(out), text);
}

} // namespace kernelforge::chat
