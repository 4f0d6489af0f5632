// How much of the beginning of a normalized text stands for the first character of the original.
#pragma once

#include "kernelforge/support/Utf8.h"

#include <cstddef>
#include <optional>
#include <string_view>

namespace kernelforge {

/// Follows one step of a normalizer from the beginning of a text on, as `tokenizers` does: a
/// character of the result takes the place of the next one of the text, or is one more behind the
/// place before it. The order of calls is that of the result.
class BeginTracker {
public:
  /// `count`: how many characters at the beginning stand for the original's first.
  explicit BeginTracker(size_t count) : count(count) {}

  /// A character. `change`: 0 where it takes the place of the next one of the text, 1 where it is
  /// one more, -n where it also takes the n places behind its own.
  void put(ptrdiff_t change) {
    place();
    last = change;
  }
  /// As many that take places.
  void put(std::string_view characters) {
    forEach(characters, [&] { put(0); });
  }
  /// As many that are more.
  void add(std::string_view characters) {
    forEach(characters, [&] { put(1); });
  }
  /// The next ones of the text are gone with their places; what is added stands for the last.
  void skip(std::string_view characters) {
    place();
    forEach(characters, [&] { ++used; });
  }
  /// A text by another: character by character, then what either has more.
  void replace(std::string_view from, std::string_view to) {
    size_t more = 0;
    forEach(from, [&] { ++more; });
    forEach(to, [&] {
      put(more > 0 ? 0 : 1);
      more -= more > 0;
    });
    drop(more);
  }
  /// How many characters at the beginning of the result stand for the original's first.
  size_t finish() {
    place();
    return found;
  }

private:
  template <typename Use> void forEach(std::string_view characters, Use &&use) {
    for (; !characters.empty() && !isBehind;
         characters.remove_prefix(decodeUtf8(characters).length))
      use();
  }

  /// The next ones of the text are gone. Their places go to the last character of the result; where
  /// there is none, to nobody, and what follows takes them.
  void drop(size_t characters) {
    if (last)
      last = *last - static_cast<ptrdiff_t>(characters);
  }
  /// Counts the last character, of which all is known now.
  void place() {
    if (last && !isBehind) {
      const size_t at = *last > 0 && used > 0 ? used - 1 : used;
      isBehind = at >= count;
      found += !isBehind;
      used += *last > 0 ? 0 : static_cast<size_t>(1 - *last);
    }
    last.reset();
  }

  size_t count, used = 0, found = 0;
  std::optional<ptrdiff_t> last; ///< the change of the last character
  bool isBehind = false;         ///< what follows stands for later characters
};

} // namespace kernelforge
