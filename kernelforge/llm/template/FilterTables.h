// The tables that findFilter() looks in.
#pragma once

#include "kernelforge/llm/template/Interpreter.h"

#include <span>

namespace kernelforge::chat {

using FilterEntry = std::pair<std::string_view, Callable::Function>;

/// Filters over lists, dicts and the characters of strings.
std::span<const FilterEntry> sequenceFilters();

} // namespace kernelforge::chat
