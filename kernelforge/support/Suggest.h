// What a misspelt name may have been meant to be.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// The one of `names` that `given` is a slip for: a few letters wrong, swapped, missing or too
/// many, another case, or its beginning. Empty where none is near.
std::string nearestName(std::string_view given, std::span<const std::string> names);

/// "did you mean 'NAME'?", or empty where none of `names` is near.
std::string didYouMean(std::string_view given, std::span<const std::string> names);

/// The hint of an error about an unknown name: "did you mean 'grid'? known: grid, random".
std::string namesHint(std::string_view given, std::span<const std::string> names);

} // namespace kernelforge
