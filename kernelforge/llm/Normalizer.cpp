#include "kernelforge/llm/Normalizer.h"

#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <memory>
#include <tuple>
#include <unicode/brkiter.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/utext.h>
#include <vector>

namespace kernelforge {

/// The text with long runs of marks in canonical order: it means the same, and composing then
/// takes linear time. The library moves each mark past all that belong behind it, one by one.
static std::string withOrderedMarks(std::string_view text) {
  constexpr size_t longRun = 32;
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
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = decodeUtf8(text.substr(at));
    const uint8_t order = u_getCombiningClass(static_cast<UChar32>(step.codePoint));
    if (order == 0) {
      flush();
      out.append(text.substr(at, step.length));
    } else {
      run.emplace_back(order, at, step.codePoint);
    }
    at += step.length;
  }
  flush();
  return out;
}

static std::string compose(std::string_view original,
                           const icu::Normalizer2 *(*formOf)(UErrorCode &)) {
  const std::string text = withOrderedMarks(original);
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2 *form = formOf(status);
  std::string composed;
  icu::StringByteSink<std::string> sink(&composed, static_cast<int32_t>(text.size()));
  if (U_SUCCESS(status))
    form->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink,
                        nullptr, status);
  // Its tables are part of the library: it fails where there is no memory, and then nothing works.
  return U_SUCCESS(status) ? composed : text;
}

std::string composeUtf8(std::string_view text) {
  return compose(text, icu::Normalizer2::getNFCInstance);
}

std::string composeCompatibilityUtf8(std::string_view text) {
  return compose(text, icu::Normalizer2::getNFKCInstance);
}

std::string lowercaseUtf8(std::string_view text) {
  constexpr char32_t dottedI = 0x130; // the one that becomes two characters
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = decodeUtf8(text);
    if (step.codePoint == dottedI)
      out += "i\u0307";
    else
      appendUtf8(out, static_cast<char32_t>(u_tolower(static_cast<UChar32>(step.codePoint))));
    text.remove_prefix(step.length);
  }
  return out;
}

void forEachGrapheme(std::string_view text, const std::function<void(std::string_view)> &use) {
  UErrorCode status = U_ZERO_ERROR;
  UText view = UTEXT_INITIALIZER;
  utext_openUTF8(&view, text.data(), static_cast<int64_t>(text.size()), &status);
  const std::unique_ptr<icu::BreakIterator> breaks(
      icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), status));
  if (U_SUCCESS(status))
    breaks->setText(&view, status);
  if (U_SUCCESS(status)) { // as above
    int32_t begin = breaks->first();
    for (int32_t end = breaks->next(); end != icu::BreakIterator::DONE; end = breaks->next()) {
      use(text.substr(begin, end - begin));
      begin = end;
    }
  }
  utext_close(&view);
}

} // namespace kernelforge
