// What a user sees of the command line itself: --help, and what is said of mistakes in it.
#pragma once

#include "Command.h"

namespace kernelforge::cli {

/// --help with "..." only behind options that take several values at once.
class HelpFormatter : public CLI::Formatter {
public:
  std::string make_option_opts(const CLI::Option *option) const override;
};

/// Takes one of several words only: the words are refused with them and the nearest.
CLI::Validator oneOf(std::vector<std::string> words);

/// A mistake on the command line as one line; CLI11's own message has several. Misspelt commands
/// and options are told what they may have been meant to be.
Error usageError(const CLI::App &app, const CLI::ParseError &error);

/// Whether help was asked for of a command that is none: compil --help.
bool isOfNoCommand(const CLI::App &app);

/// Lets options that take a text refuse an empty one, which would look like none to who uses it.
/// Texts that may be empty stay: prompts and the like.
void refuseEmptyTexts(CLI::App &app);

} // namespace kernelforge::cli
