#include "kernelforge/llm/Charsmap.h"

#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <optional>

namespace kernelforge {

// A unit of the double array holds its label in bits 0 to 7, whether a value belongs to it in bit
// 8, and how far its children are in bits 10 to 30, which count 256 each where bit 9 is set. Bit 31
// marks a value instead. The child for a byte lies at node ^ offset ^ byte, the value at byte 0.
// https://github.com/s-yata/darts-clone
static uint32_t offsetOf(uint32_t unit) { return (unit >> 10) << ((unit >> 9 & 1) * 8); }
static bool hasValue(uint32_t unit) { return unit >> 8 & 1; }
static bool hasLabel(uint32_t unit, uint8_t label) { return (unit & 0x800000ff) == label; }
static uint32_t valueOf(uint32_t unit) { return unit & 0x7fffffff; }

tl::expected<std::shared_ptr<const Charsmap>, std::string> Charsmap::read(std::string_view table) {
  if (table.size() > maxBytes)
    return tl::unexpected(fmt::format("has {} bytes, more than {}", table.size(), maxBytes));
  uint32_t size = 0;
  if (table.size() < sizeof(size))
    return tl::unexpected(fmt::format("has {} bytes, at least 4 are needed", table.size()));
  std::memcpy(&size, table.data(), sizeof(size)); // little-endian, as the machines that we run on
  table.remove_prefix(sizeof(size));
  if (size == 0 || size % sizeof(uint32_t) != 0 || size > table.size())
    return tl::unexpected(
        fmt::format("says that its trie has {} bytes, of {}", size, table.size()));
  auto map = std::make_shared<Charsmap>();
  map->units.resize(size / sizeof(uint32_t));
  std::memcpy(map->units.data(), table.data(), size);
  map->texts = table.substr(size);
  if (map->texts.empty() || map->texts.back() != '\0')
    return tl::unexpected<std::string>("ends without a NUL");
  if (!isValidUtf8(map->texts))
    return tl::unexpected<std::string>("has a text that is not valid UTF-8");
  if (std::string why = map->check(); !why.empty())
    return tl::unexpected(std::move(why));
  return map;
}

/// `bytesLeft`: of each place of the texts, how many bytes are left to its NUL.
std::string Charsmap::checkValue(uint32_t node, const std::vector<uint32_t> &bytesLeft) const {
  const uint32_t place = node ^ offsetOf(units[node]);
  if (place >= units.size() || units[place] >> 31 == 0)
    return fmt::format("has no value where its node {} says", node);
  const uint32_t value = valueOf(units[place]);
  if (value >= texts.size() || (static_cast<uint8_t>(texts[value]) & 0xc0) == 0x80)
    return fmt::format("points to byte {} of the {} bytes of its texts", value, texts.size());
  if (bytesLeft[value] > maxReplacementBytes)
    return fmt::format("has a text of {} bytes, more than {}", bytesLeft[value],
                       maxReplacementBytes);
  return "";
}

std::string Charsmap::check() const {
  std::vector<uint32_t> bytesLeft(texts.size());
  for (size_t i = texts.size() - 1; i-- > 0;)
    bytesLeft[i] = texts[i] == '\0' ? 0 : bytesLeft[i + 1] + 1;
  // Depth first. Strings share nodes, which are walked once: of each, the longest way down.
  struct Step {
    uint32_t node, nextByte;
  };
  constexpr uint8_t unseen = 0xff, open = 0xfe; // else the bytes of the longest way down
  std::vector<uint8_t> below(units.size(), unseen);
  std::vector<Step> way{{0, 1}};
  below[0] = open;
  std::vector<uint8_t> longest{0};
  while (!way.empty()) {
    const uint32_t node = way.back().node;
    uint32_t &nextByte = way.back().nextByte;
    if (nextByte == 1 && hasValue(units[node]))
      if (std::string why = checkValue(node, bytesLeft); !why.empty())
        return why;
    const uint32_t children = node ^ offsetOf(units[node]);
    std::optional<uint32_t> down;
    while (nextByte < 256 && !down) {
      const uint32_t byte = nextByte++, child = children ^ byte;
      if (child >= units.size() || !hasLabel(units[child], static_cast<uint8_t>(byte)))
        continue;
      if (below[child] == open)
        return fmt::format("has strings without an end at its node {}", child);
      if (below[child] == unseen)
        down = child;
      else
        longest.back() = std::max<uint8_t>(longest.back(), below[child] + 1);
    }
    if (down) {
      if (way.size() > maxKeyBytes)
        return fmt::format("has a string of more than {} bytes", maxKeyBytes);
      below[*down] = open;
      longest.push_back(0);
      way.push_back({*down, 1});
      continue;
    }
    below[node] = longest.back();
    longest.pop_back();
    way.pop_back();
    if (!longest.empty())
      longest.back() = std::max<uint8_t>(longest.back(), below[node] + 1);
    if (below[node] > maxKeyBytes)
      return fmt::format("has a string of more than {} bytes", maxKeyBytes);
  }
  return "";
}

std::string_view Charsmap::replacementAt(uint32_t value) const {
  return value < texts.size() ? std::string_view(texts.c_str() + value) : std::string_view();
}

Charsmap::Match Charsmap::find(std::string_view text, bool isFirstEnough) const {
  Match match;
  uint32_t node = offsetOf(units[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (byte == 0 || node >= units.size() || !hasLabel(units[node], byte))
      break;
    const uint32_t unit = units[node];
    node ^= offsetOf(unit);
    if (hasValue(unit) && node < units.size()) {
      match = {i + 1, replacementAt(valueOf(units[node]))};
      if (isFirstEnough)
        break;
    }
  }
  return match;
}

} // namespace kernelforge
