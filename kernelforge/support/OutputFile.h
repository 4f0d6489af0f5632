// What a user names as an output: a file, or whatever else is there.
#pragma once

#include "kernelforge/support/Error.h"

#include <filesystem>
#include <string_view>

namespace kernelforge {

/// Writes `bytes` where the user said. Links are followed, and stay: a dangling one creates what it
/// points to. A regular file, there or to be made, is written atomically, as by
/// writeFileAtomically; one that is replaced keeps its owner and permissions. Devices, FIFOs and
/// descriptors of this process (/dev/stdout, /dev/fd/3) are written through and stay what they are;
/// opening a FIFO waits for its reader. A reader that has gone (EPIPE) wants no more: that is no
/// error, where SIGPIPE is ignored. Unusable where a socket, a folder or a circle of links is
/// named; Failed, naming the step and the system's reason, otherwise.
Status writeOutput(const std::filesystem::path &path, std::string_view bytes);

/// Whether what is written there is a file of its own: there is a regular one or none, and no
/// device, FIFO or descriptor.
bool isReplaceable(const std::filesystem::path &path);

/// As writeOutput, to standard output.
Status writeStandardOutput(std::string_view bytes);

} // namespace kernelforge
