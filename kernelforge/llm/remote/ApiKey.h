// The key of a hosted model: it goes into one header of a request, and nowhere else.
#pragma once

#include "kernelforge/support/Error.h"

#include <string>
#include <string_view>

namespace kernelforge {

class ApiKey {
public:
  /// `name` is where the text is from, for errors, which never show the text. Missing where it is
  /// empty; Unusable where it is no bearer token (RFC 6750, section 2.1: letters, digits, -._~+/
  /// and = at the end) of 8 to 4096 characters.
  static Expected<ApiKey> create(std::string text, const std::string &name);

  /// The value of the Authorization header.
  std::string bearer() const { return "Bearer " + text; }

  /// `shown` with every piece of six or more characters of the key replaced by "[key]": as it is
  /// (in either case), in hexadecimal, base64 (at any offset, either alphabet) or percent-encoded.
  /// For all that a server says: it may send back what it got.
  std::string redact(std::string_view shown) const;

private:
  explicit ApiKey(std::string text) : text(std::move(text)) {}
  std::string text;
};

} // namespace kernelforge
