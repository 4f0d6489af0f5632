#include "kernelforge/llm/Normalizer.h"

#include "kernelforge/llm/BeginTracker.h"
#include "kernelforge/llm/CodePointRanges.h"
#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uniset.h>
#include <utility>
#include <vector>

namespace kernelforge {

namespace {

using FormOf = const icu::Normalizer2 *(UErrorCode &);

/// A form in which the characters that Unicode got after 9.0 stay as they are: that is the version
/// by which `tokenizers` normalizes, and ids must not depend on a system's.
const icu::Normalizer2 *limited(FormOf *formOf) {
  UErrorCode status = U_ZERO_ERROR;
  static const icu::UnicodeSet *const known = [] {
    UErrorCode status = U_ZERO_ERROR;
    auto *set = new icu::UnicodeSet(u"[:Age=9.0:]", status);
    return U_SUCCESS(status) ? static_cast<const icu::UnicodeSet *>(set->freeze()) : nullptr;
  }();
  const icu::Normalizer2 *form = formOf(status);
  // Its tables are part of the library: it fails where there is no memory, and then nothing works.
  return U_SUCCESS(status) && known ? new icu::FilteredNormalizer2(*form, *known) : nullptr;
}

/// A form that composes, and the one that takes apart what it composes.
struct Forms {
  const icu::Normalizer2 *composing, *apart; ///< null where there is no memory

  static const Forms &canonical() {
    static const Forms forms{limited(icu::Normalizer2::getNFCInstance),
                             limited(icu::Normalizer2::getNFDInstance)};
    return forms;
  }
  static const Forms &compatible() {
    static const Forms forms{limited(icu::Normalizer2::getNFKCInstance),
                             limited(icu::Normalizer2::getNFKDInstance)};
    return forms;
  }
  explicit operator bool() const { return composing && apart; }
};

/// The text with long runs of marks in canonical order: it means the same, and composing then
/// takes linear time. The library moves each mark past all that belong behind it, one by one.
std::string withOrderedMarks(std::string_view text, const Forms &forms) {
  constexpr size_t longRun = 32;
  constexpr char32_t firstThatIsTakenApart = 0xa0;
  std::string out;
  out.reserve(text.size());
  std::vector<std::tuple<uint8_t, size_t, char32_t>> run; // combining class, place, mark
  auto flush = [&] {
    if (run.size() > longRun)
      std::ranges::sort(run); // of one class in the order that they have
    for (const auto &[order, place, mark] : run)
      appendUtf8(out, mark);
    run.clear();
  };
  auto orderOf = [&](UChar32 c) { return forms.apart->getCombiningClass(c); };
  // What is no mark itself but is taken apart into some: these.
  auto marksOf = [&](UChar32 c) {
    icu::UnicodeString marks;
    if (c < static_cast<UChar32>(firstThatIsTakenApart) || !forms.apart->getDecomposition(c, marks))
      return icu::UnicodeString();
    for (int32_t i = 0; i < marks.length(); i = marks.moveIndex32(i, 1))
      if (orderOf(marks.char32At(i)) == 0)
        return icu::UnicodeString();
    return marks;
  };
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = decodeUtf8(text.substr(at));
    const auto c = static_cast<UChar32>(step.codePoint);
    if (const uint8_t order = orderOf(c); order != 0) {
      run.emplace_back(order, at, step.codePoint);
    } else if (const icu::UnicodeString marks = marksOf(c); !marks.isEmpty()) {
      for (int32_t i = 0; i < marks.length(); i = marks.moveIndex32(i, 1))
        run.emplace_back(orderOf(marks.char32At(i)), at + static_cast<size_t>(i),
                         static_cast<char32_t>(marks.char32At(i)));
    } else {
      flush();
      out.append(text.substr(at, step.length));
    }
    at += step.length;
  }
  flush();
  return out;
}

std::string compose(std::string_view original, const Forms &forms) {
  if (!forms)
    return std::string(original);
  const std::string text = withOrderedMarks(original, forms);
  UErrorCode status = U_ZERO_ERROR;
  std::string composed;
  icu::StringByteSink<std::string> sink(&composed, static_cast<int32_t>(text.size()));
  forms.composing->normalizeUTF8(
      0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr, status);
  return U_SUCCESS(status) ? composed : text;
}

} // namespace

std::string composeUtf8(std::string_view text) { return compose(text, Forms::canonical()); }

std::string composeCompatibilityUtf8(std::string_view text) {
  return compose(text, Forms::compatible());
}

namespace {

/// A character that is taken apart from another, and put together with others.
struct Part {
  UChar32 character;
  uint8_t order; ///< combining class
  size_t place;
  ptrdiff_t change; ///< of its place, as BeginTracker.h has it
};

/// The parts of the first `count` characters and of what may be put together with them, in
/// canonical order.
std::vector<Part> takeApart(std::string_view text, size_t count, const icu::Normalizer2 &form) {
  std::vector<Part> parts;
  bool isBehind = false;
  for (size_t i = 0; !text.empty(); ++i) {
    const Utf8Step step = decodeUtf8(text);
    const auto c = static_cast<UChar32>(step.codePoint);
    if (i >= count && form.getCombiningClass(c) == 0 && std::exchange(isBehind, true))
      break;
    icu::UnicodeString apart;
    if (!form.getDecomposition(c, apart))
      apart = c;
    for (int32_t at = 0; at < apart.length(); at = apart.moveIndex32(at, 1)) {
      const UChar32 part = apart.char32At(at);
      parts.push_back({part, form.getCombiningClass(part), parts.size(), at > 0 ? 1 : 0});
    }
    text.remove_prefix(step.length);
  }
  for (auto begin = parts.begin(); begin != parts.end();) {
    const auto isMark = [](const Part &part) { return part.order != 0; };
    begin = std::find_if(begin, parts.end(), isMark);
    const auto end = std::find_if_not(begin, parts.end(), isMark);
    std::sort(begin, end, [](const Part &a, const Part &b) {
      return std::tie(a.order, a.place) < std::tie(b.order, b.place);
    });
    begin = end;
  }
  return parts;
}

} // namespace

size_t trackComposed(std::string_view text, size_t count, bool compatibility) {
  const Forms &forms = compatibility ? Forms::compatible() : Forms::canonical();
  if (!forms || count == 0)
    return 0;
  std::vector<Part> parts = takeApart(text, count, *forms.apart);
  size_t kept = 0;               // of what has been put together, which lies at the beginning
  std::optional<size_t> starter; ///< what those behind it may be put together with
  for (const Part part : parts) {
    const bool isNext = starter && (*starter + 1 == kept || parts[kept - 1].order < part.order);
    if (isNext)
      if (const UChar32 both =
              forms.composing->composePair(parts[*starter].character, part.character);
          both >= 0) {
        parts[*starter].character = both;
        parts[*starter].change += part.change - 1;
        continue;
      }
    if (part.order == 0)
      starter = kept;
    parts[kept++] = part;
  }
  parts.resize(kept, Part());
  BeginTracker tracker(count);
  for (const Part &part : parts)
    tracker.put(part.change);
  return tracker.finish();
}

namespace {

struct LowercaseRange {
  char32_t first, last;
  uint32_t step; ///< each step-th code point of the range has a lower case
  int32_t distance;
};

// A table of ours, as that of SplitPattern.cpp: ids must not depend on a system's version.
constexpr LowercaseRange lowercaseRanges[] = {
#include "kernelforge/llm/LowercaseLetters.inc"
};

} // namespace

std::string lowercaseUtf8(std::string_view text) {
  constexpr char32_t dottedI = 0x130; // the one that becomes two characters
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = decodeUtf8(text);
    const char32_t c = step.codePoint;
    const LowercaseRange *range = findRange(lowercaseRanges, c);
    if (c == dottedI)
      out += "i\u0307";
    else if (range && (c - range->first) % range->step == 0)
      appendUtf8(out, c + static_cast<char32_t>(range->distance));
    else
      out.append(text.substr(0, step.length));
    text.remove_prefix(step.length);
  }
  return out;
}

} // namespace kernelforge
