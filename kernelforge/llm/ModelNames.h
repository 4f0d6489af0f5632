// What a user may write for a model: a path, or the name of one in the home directory.
#pragma once

#include "kernelforge/support/Error.h"

#include <string>

namespace kernelforge {

/// The path that `nameOrPath` means: itself where something of that name exists or where it is
/// written as a path (with a slash or a file's extension), else NAME.gguf in modelsDirectory().
/// Missing, saying how to get it, where a name resolves to nothing.
Expected<std::string> resolveModel(const std::string &nameOrPath);

} // namespace kernelforge
