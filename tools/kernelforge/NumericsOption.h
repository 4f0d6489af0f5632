// --numerics: what matmuls and attentions round their operands to.
#pragma once

#include "Command.h"

#include "kernelforge/support/Numerics.h"

namespace kernelforge::cli {

/// Adds --numerics, whose word goes to `word`; `what` says whose numerics they are.
void addNumericsOption(CLI::App &command, std::string &word, const std::string &what);

/// The numerics of that word; of "fast" those that the target asked for is fast with. Unusable,
/// naming the words, where it is none.
Expected<ChosenNumerics> requestedNumerics(const std::string &word, const Context &context);

} // namespace kernelforge::cli
