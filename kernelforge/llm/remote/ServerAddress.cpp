#include "kernelforge/llm/remote/ServerAddress.h"

#include <algorithm>
#include <arpa/inet.h>
#include <charconv>
#include <cstring>

#include <fmt/format.h>

namespace kernelforge {

std::string ServerAddress::origin() const {
  const bool v6 = host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", tls ? "https" : "http", v6 ? "[" : "", host, v6 ? "]" : "",
                     port);
}

/// Whether a host is this machine, by its name alone.
static bool isThisMachine(const std::string &host) {
  in_addr v4 = {};
  in6_addr v6 = {};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1)
    return ntohl(v4.s_addr) >> 24 == 127;
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1)
    return IN6_IS_ADDR_LOOPBACK(&v6);
  return host == "localhost";
}

Expected<ServerAddress> ServerAddress::parse(std::string_view text, const std::string &name) {
  auto refused = [&](std::string why) {
    return unusable("server address is not usable", name, std::move(why),
                    "give it as https://host, https://host:port or https://host/prefix");
  };
  ServerAddress address;
  if (text.starts_with("https://")) {
    text.remove_prefix(8);
  } else if (text.starts_with("http://")) {
    text.remove_prefix(7);
    address.tls = false;
    address.port = 80;
  } else {
    return refused("it begins neither with https:// nor with http://");
  }
  for (unsigned char c : text)
    if (c <= ' ' || c >= 0x7F || std::strchr("@?#\\\"<>", c))
      return refused("it has user information, a query, or a character that addresses do not have");
  const size_t slash = std::min(text.find('/'), text.size());
  address.prefix = text.substr(slash);
  while (address.prefix.ends_with('/'))
    address.prefix.pop_back();
  std::string_view host = text.substr(0, slash), port;
  bool hasPort = false;
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    if (end == std::string_view::npos)
      return refused("the bracket of its host does not close");
    const std::string_view rest = host.substr(end + 1);
    if (!rest.empty() && !rest.starts_with(':'))
      return refused("something other than a port follows its host");
    hasPort = !rest.empty();
    port = hasPort ? rest.substr(1) : rest;
    host = host.substr(1, end - 1);
  } else if (const size_t colon = host.find(':'); colon != std::string_view::npos) {
    hasPort = true;
    port = host.substr(colon + 1);
    host = host.substr(0, colon);
  }
  if (host.empty() || host.size() > 253)
    return refused("it has no host of 1 to 253 characters");
  address.host = host;
  if (hasPort) {
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
    if (error != std::errc() || end != port.data() + port.size() || address.port < 1 ||
        address.port > 65535)
      return refused("its port is none from 1 to 65535");
  }
  if (!address.tls && !isThisMachine(address.host))
    return refused("http:// would send the key in the open, and the host is not this machine");
  return address;
}

} // namespace kernelforge
