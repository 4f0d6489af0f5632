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

Error::Error() = default;
Error::Error(ErrorKind kind, std::string what, std::string where, std::string why, std::string hint)
    : kind(kind), what(std::move(what)), where(std::move(where)), why(std::move(why)),
      hint(std::move(hint)) {}
Error::Error(const Error &other) = default;
Error::Error(Error &&other) noexcept = default;
Error &Error::operator=(const Error &other) = default;
Error &Error::operator=(Error &&other) noexcept = default;
Error::~Error() = default;

tl::unexpected<Error> makeError(ErrorKind kind, std::string_view what, std::string_view where,
                                std::string_view why, std::string_view hint) {
  return tl::unexpected<Error>(
      Error(kind, std::string(what), std::string(where), std::string(why), std::string(hint)));
}

tl::unexpected<Error> unusable(std::string_view what, std::string_view where, std::string_view why,
                               std::string_view hint) {
  return makeError(ErrorKind::Unusable, what, where, why, hint);
}

tl::unexpected<Error> missing(std::string_view what, std::string_view where, std::string_view why,
                              std::string_view hint) {
  return makeError(ErrorKind::Missing, what, where, why, hint);
}

tl::unexpected<Error> failed(std::string_view what, std::string_view where, std::string_view why,
                             std::string_view hint) {
  return makeError(ErrorKind::Failed, what, where, why, hint);
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
