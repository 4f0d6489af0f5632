// A comparison as a user wants to read it.
#pragma once

#include "Command.h"

#include "kernelforge/eval/Compare.h"

namespace kernelforge::cli {

/// A row's name, cut in its middle where a table has no room for it.
std::string shortName(const std::string &name);

/// Adds --threshold, described by `least`, --alpha and --force.
void addComparingOptions(CLI::App &command, CompareOptions &options, const std::string &least);

/// Prints the rows in a format of --format, or all of it as JSON with --json. A table comes with
/// what it does not say: why rows have no verdict, what else changed, and the end.
void printComparison(const Comparison &comparison, const std::string &format,
                     const Context &context);

} // namespace kernelforge::cli
