// Files that are either whole or not there, whatever happens in between.
#pragma once

#include "kernelforge/support/Error.h"

#include <filesystem>
#include <string_view>

namespace kernelforge {

/// What to do about an errno of writing a file; empty where nothing is known.
std::string writingHint(int error);

/// Writes `bytes` to a temporary file beside `file`, makes them durable and renames it to `file`,
/// replacing what was there: a reader sees the old bytes or the new ones, and of several writers
/// the last wins. `mode` is the file's permissions before the umask. Failed, naming the step and
/// the system's reason, leaves `file` as it was and no temporary file. Where a limit on file sizes
/// is set, SIGXFSZ must be ignored by the process to get the error. For files of our own: what a
/// user names may be a link or a device, and is written by writeOutput.
Status writeFileAtomically(const std::filesystem::path &file, std::string_view bytes,
                           unsigned mode = 0666);

/// As writeFileAtomically, for a regular file that is there: the new one has its owner and
/// permissions, as far as this process may give them.
Status replaceFileAtomically(const std::filesystem::path &file, std::string_view bytes);

} // namespace kernelforge
