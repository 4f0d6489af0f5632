// What tokenizers do to a text before they cut it.
#pragma once

#include <string>
#include <string_view>

namespace kernelforge {

/// Unicode's normalization form C: letters and the marks that follow them as one code point, where
/// there is one. `text` is valid UTF-8 of less than 2 GiB. What characters compose to never changes
/// between versions of Unicode, but for those that a version is the first to have.
std::string composeUtf8(std::string_view text);

} // namespace kernelforge
