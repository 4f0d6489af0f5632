// Options that commands which run suites share.
#pragma once

#include "Command.h"

#include <map>

namespace kernelforge::cli {

/// Adds the hidden --slow NAME=FACTOR, by which tests make rows slow.
void addSlowOption(CLI::App &command, std::vector<std::string> &slow);

/// Rows by name with the factor. Unusable where a text is no NAME=FACTOR of at least 1.
Expected<std::map<std::string, double>> parseSlow(const std::vector<std::string> &texts);

} // namespace kernelforge::cli
