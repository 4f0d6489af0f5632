#include "kernelforge/support/Error.h"

#include <fmt/format.h>

namespace kernelforge {

std::string escapeControls(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (unsigned char c : text) {
    if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (c < 0x20 || c == 0x7f)
      out += fmt::format("\\x{:02x}", c);
    else
      out += static_cast<char>(c);
  }
  return out;
}

std::string Error::line() const {
  std::string out = what;
  if (!where.empty())
    out += " (" + where + ")";
  out += ": " + why;
  if (!hint.empty())
    out += "; " + hint;
  return escapeControls(out);
}

} // namespace kernelforge
