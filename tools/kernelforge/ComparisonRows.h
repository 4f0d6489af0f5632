// A comparison as a user wants to read it.
#pragma once

#include "Command.h"

#include "kernelforge/eval/Comparison.h"

namespace kernelforge::cli {

/// Prints the rows in a format of --format, or all of it as JSON with --json. A table comes with
/// what it does not say: why rows have no verdict, what else changed, and the end.
void printComparison(const Comparison &comparison, const std::string &format,
                     const Context &context);

} // namespace kernelforge::cli
