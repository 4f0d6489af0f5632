#include "kernelforge/compiler/Sections.h"

#include "kernelforge/ir/Hash.h"

#include <charconv>
#include <cstdint>

#include <fmt/format.h>

namespace kernelforge {

static auto damaged(std::string why) { return unusable("file is damaged", "", std::move(why)); }

void appendSection(std::string &file, std::string_view name, std::string_view bytes) {
  file += fmt::format("{} {} {}\n", name, bytes.size(), sha256Hex(bytes));
  file += bytes;
  file += '\n';
}

Expected<std::string_view> takeSection(std::string_view &rest, std::string_view name) {
  constexpr size_t hashDigits = 64;
  // The header of a section is short; where there is no line break the file is not gone through.
  const size_t longest = name.size() + hashDigits + 24;
  size_t lineEnd = rest.substr(0, longest).find('\n');
  if (lineEnd == std::string_view::npos)
    return damaged(fmt::format(
        "{} its {}", rest.size() < longest ? "it ends before" : "there is no header of", name));
  std::string_view line = rest.substr(0, lineEnd);
  if (!line.starts_with(fmt::format("{} ", name)))
    return damaged(fmt::format("its {} is not where it should be", name));
  line.remove_prefix(name.size() + 1);
  uint64_t length = 0;
  auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), length);
  std::string_view hash = line.substr(end - line.data());
  if (error != std::errc() || hash.size() != 1 + hashDigits || hash.front() != ' ')
    return damaged(fmt::format("the header of its {} is malformed", name));
  rest.remove_prefix(lineEnd + 1);
  if (length >= rest.size() || rest[length] != '\n')
    return damaged(fmt::format("its {} is cut short", name));
  std::string_view bytes = rest.substr(0, length);
  if (sha256Hex(bytes) != hash.substr(1))
    return damaged(fmt::format("the checksum of its {} is wrong", name));
  rest.remove_prefix(length + 1);
  return bytes;
}

} // namespace kernelforge
