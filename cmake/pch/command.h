// Of the command line: the only one that includes CLI11.
#pragma once
#include "mlir.h"
#include "text.h"

#include <CLI/CLI.hpp>
