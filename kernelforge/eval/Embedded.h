// The files that kf_embed (cmake/Embed.cmake) put into this room's library. Private to the room.
#pragma once

#include <span>
#include <string_view>

namespace kernelforge {

/// A file of the source tree or of a package, byte for byte; lives as long as the program.
struct EmbeddedFile {
  std::string_view name; ///< as in kf_embed: "html/report.css"
  std::string_view bytes;
};

/// All of them, in the order of CMakeLists.txt.
std::span<const EmbeddedFile> embeddedFiles();

/// The bytes of the file with that name; empty where there is none.
std::string_view embeddedFile(std::string_view name);

} // namespace kernelforge
