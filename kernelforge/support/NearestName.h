// What someone may have meant who wrote a name that is not known.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace kernelforge {

/// The name of `known` that `word` is a slip of: a letter or two wrong, missing, too many or
/// swapped, or one of them begins with the other. Empty where none is near. Case does not count.
std::string nearestName(std::string_view word, std::span<const std::string> known);

/// "did you mean 'NAME'?" for that name; empty where none is near.
std::string didYouMean(std::string_view word, std::span<const std::string> known);

} // namespace kernelforge
