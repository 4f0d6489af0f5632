// A file that kf_embed (cmake/Embed.cmake) put into a room's library.
#pragma once

#include <string_view>

namespace kernelforge {

/// A file of the source tree or of a package, byte for byte; lives as long as the program.
struct EmbeddedFile {
  std::string_view name; ///< as in kf_embed: "html/report.css"
  std::string_view bytes;
};

} // namespace kernelforge
