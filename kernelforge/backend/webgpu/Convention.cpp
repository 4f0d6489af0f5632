#include "kernelforge/backend/webgpu/Convention.h"

#include <cctype>
#include <fmt/format.h>
#include <string>

namespace kernelforge::webgpu {

std::optional<FoldedGrid> foldGrid(uint64_t tasks, uint64_t limit) {
  if (tasks == 0)
    return FoldedGrid{};
  if (limit == 0 || tasks > UINT32_MAX)
    return std::nullopt;
  // As even as possible, so that few workgroups have nothing to do.
  const uint64_t height = (tasks + limit - 1) / limit;
  const uint64_t width = (tasks + height - 1) / height;
  if (height > limit || width * height > UINT32_MAX)
    return std::nullopt;
  return FoldedGrid{uint32_t(tasks), uint32_t(width), uint32_t(height)};
}

std::vector<int> sizesOf(const Phase &phase) {
  std::vector<int> sizes;
  for (const Parameter &parameter : phase.parameters)
    if (parameter.kind == Parameter::Kind::Size)
      sizes.push_back(parameter.index);
  return sizes;
}

std::vector<Parameter> buffersOf(const Phase &phase) {
  std::vector<Parameter> buffers;
  for (const Parameter &parameter : phase.parameters)
    if (parameter.kind != Parameter::Kind::Size)
      buffers.push_back(parameter);
  return buffers;
}

uint64_t uniformBytes(const Phase &phase) { return 4 * (sizesOf(phase).size() + 2); }

void writeUniform(const Phase &phase, std::span<const int64_t> sizes, const FoldedGrid &grid,
                  uint32_t *words) {
  for (int size : sizesOf(phase))
    *words++ = static_cast<uint32_t>(sizes[size]);
  *words++ = grid.tasks;
  *words = grid.width;
}

namespace {

std::string withoutComments(std::string_view wgsl) {
  std::string out;
  int depth = 0; // of comments in comments
  for (size_t i = 0; i < wgsl.size(); ++i) {
    const std::string_view two = wgsl.substr(i, 2);
    if (depth == 0 && two == "//") {
      i = std::min(wgsl.find('\n', i), wgsl.size());
      out += '\n';
    } else if (two == "/*") {
      ++depth, ++i;
    } else if (depth > 0 && two == "*/") {
      --depth, ++i;
    } else if (depth == 0) {
      out += wgsl[i];
    }
  }
  return out;
}

/// The number in "NAME(number)" of a declaration's attributes; -1: none.
int attribute(std::string_view attributes, std::string_view name) {
  const size_t at = attributes.rfind(name);
  if (at == std::string_view::npos)
    return -1;
  int number = -1;
  for (size_t i = at + name.size(); i < attributes.size() && attributes[i] != ')'; ++i)
    if (std::isdigit(static_cast<unsigned char>(attributes[i])) && number < 1 << 20)
      number = (number < 0 ? 0 : number * 10) + (attributes[i] - '0');
  return number;
}

} // namespace

DeclaredAccess::DeclaredAccess(std::string_view wgsl) : text(withoutComments(wgsl)) {
  const std::string_view all = text;
  // A declaration ends at a semicolon; one of a resource is `attributes var<storage, access> ...`.
  size_t begin = 0;
  for (size_t end = all.find(';'); end != std::string_view::npos; end = all.find(';', begin)) {
    const std::string_view statement = all.substr(begin, end - begin);
    begin = end + 1;
    const size_t var = statement.rfind("var");
    if (var == std::string_view::npos)
      continue;
    const size_t open = statement.find_first_not_of(" \t\n\r", var + 3);
    if (open == std::string_view::npos || statement[open] != '<')
      continue;
    const std::string_view space = statement.substr(open, statement.find('>', open) - open);
    const std::string_view attributes = statement.substr(0, var);
    const int binding = attribute(attributes, "@binding");
    if (space.find("storage") == std::string_view::npos || binding < 0 ||
        attribute(attributes, "@group") != 0)
      continue;
    declarations.push_back({binding, space.find("write") == std::string_view::npos, begin});
  }
}

std::optional<bool> DeclaredAccess::isReadOnly(int binding, std::string_view entry) const {
  const size_t function = text.find(fmt::format("fn {}(", entry));
  std::optional<bool> only, own;
  bool bothWays = false;
  for (const Declaration &declaration : declarations) {
    if (declaration.binding != binding)
      continue;
    bothWays |= only && *only != declaration.readOnly;
    only = declaration.readOnly;
    if (function != std::string::npos && declaration.at <= function)
      own = declaration.readOnly;
  }
  return bothWays ? own : only;
}

} // namespace kernelforge::webgpu
