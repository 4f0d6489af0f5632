// Of the command line: the only one that includes CLI11.
#pragma once
#include "kernel.h"

#include "kernelforge/compiler/Session.h"
// Each file that includes it has code for its validators, formatters and configurations, and makes
// them when the program starts. None of that needs to be fast.
#pragma clang optimize off
#include <CLI/CLI.hpp>
#pragma clang optimize on
