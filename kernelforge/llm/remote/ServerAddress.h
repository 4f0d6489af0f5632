// Where a hosted model is.
#pragma once

#include "kernelforge/support/Error.h"

#include <string>
#include <string_view>

namespace kernelforge {

/// A server: "https://host[:port][/prefix]".
struct ServerAddress {
  bool tls = true;
  std::string host; ///< a name or an address, without the brackets of one of IPv6
  int port = 443;
  std::string prefix; ///< of all paths: "" or "/v2"

  std::string origin() const; ///< "https://host:port"

  /// Unusable: not such an address, user information, a query; and http:// to anything but this
  /// machine, since it would carry keys in the open. The error does not show the text.
  static Expected<ServerAddress> parse(std::string_view text, const std::string &name);
};

} // namespace kernelforge
