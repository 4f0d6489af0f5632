// What tokenizers do to a text before they cut it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace kernelforge {

/// Unicode's normalization form C: letters and the marks that follow them as one code point, where
/// there is one. `text` is valid UTF-8 of less than 2 GiB. As `tokenizers` has it: by Unicode 9.0,
/// whose later characters stay as they are. What the others compose to never changes.
std::string composeUtf8(std::string_view text);

/// The same for form KC, which also takes compatibility characters apart.
std::string composeCompatibilityUtf8(std::string_view text);

/// How many characters at the beginning of one of these stand for the first of an original, of
/// which the first `count` of `text` are made (BeginTracker.h).
size_t trackComposed(std::string_view text, size_t count, bool compatibility);

/// Each character by itself in lower case, whatever is around it.
std::string lowercaseUtf8(std::string_view text);

} // namespace kernelforge
