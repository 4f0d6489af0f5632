// Where things that outlive a run are kept. The only place that reads the environment for it.
#pragma once

#include "kernelforge/support/Error.h"

#include <filesystem>

namespace kernelforge {

/// $KERNELFORGE_HOME; else $XDG_CACHE_HOME/kernelforge (where that is absolute); else
/// ~/.cache/kernelforge. Always absolute; not created. Missing where no home directory is known.
Expected<std::filesystem::path> homeDirectory();

/// Folders of the home directory: downloaded models, tuning records, compiled objects.
Expected<std::filesystem::path> modelsDirectory();
Expected<std::filesystem::path> recordsDirectory();
Expected<std::filesystem::path> objectsDirectory();

} // namespace kernelforge
