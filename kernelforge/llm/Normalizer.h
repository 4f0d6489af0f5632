// What tokenizers do to a text before they cut it.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace kernelforge {

/// Unicode's normalization form C: letters and the marks that follow them as one code point, where
/// there is one. `text` is valid UTF-8 of less than 2 GiB. What characters compose to never changes
/// between versions of Unicode, but for those that a version is the first to have.
std::string composeUtf8(std::string_view text);

/// The same for form KC, which also takes compatibility characters apart.
std::string composeCompatibilityUtf8(std::string_view text);

/// Each character by itself in lower case, whatever is around it.
std::string lowercaseUtf8(std::string_view text);

/// Calls use() for each extended grapheme cluster (what looks like one character) in turn. `text`
/// is valid UTF-8 of less than 2 GiB.
void forEachGrapheme(std::string_view text, const std::function<void(std::string_view)> &use);

} // namespace kernelforge
