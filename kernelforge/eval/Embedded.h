// The files that kf_embed (cmake/Embed.cmake) put into this room's library. Private to the room.
#pragma once

#include "kernelforge/support/EmbeddedFile.h"

#include <span>

namespace kernelforge {

/// All of them, in the order of CMakeLists.txt.
std::span<const EmbeddedFile> embeddedFiles();

/// The bytes of the file with that name; empty where there is none.
std::string_view embeddedFile(std::string_view name);

} // namespace kernelforge
