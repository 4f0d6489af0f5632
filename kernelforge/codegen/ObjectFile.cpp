#include "kernelforge/codegen/ObjectFile.h"

#include <algorithm>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "llvm/Object/ObjectFile.h"
#include "llvm/Support/LEB128.h"

namespace kernelforge {

namespace {

tl::unexpected<Error> unreadable(std::string why) {
  return unusable("object file is not usable", "", std::move(why));
}

tl::unexpected<Error> unreadable(llvm::Error error) {
  return unreadable(llvm::toString(std::move(error)));
}

Expected<std::unique_ptr<llvm::object::ObjectFile>> open(std::string_view object) {
  auto file = llvm::object::ObjectFile::createObjectFile(
      llvm::MemoryBufferRef(llvm::StringRef(object.data(), object.size()), "kernel"));
  if (!file)
    return unreadable(file.takeError());
  return std::move(*file);
}

} // namespace

Expected<std::vector<std::string>> undefinedSymbols(std::string_view object) {
  KF_TRY(auto file, open(object));
  std::vector<std::string> names;
  for (const llvm::object::SymbolRef &symbol : file->symbols()) {
    auto flags = symbol.getFlags();
    if (!flags)
      return unreadable(flags.takeError());
    if (!(*flags & llvm::object::SymbolRef::SF_Undefined))
      continue;
    auto name = symbol.getName();
    if (!name)
      return unreadable(name.takeError());
    if (!name->empty())
      names.push_back(name->str());
  }
  std::sort(names.begin(), names.end());
  return names;
}

Status checkSelfContained(std::string_view object, std::string_view kernel) {
  KF_TRY(auto names, undefinedSymbols(object));
  std::erase_if(names,
                [](const std::string &name) { return name == "memcpy" || name == "memset"; });
  if (names.empty())
    return {};
  return failed("kernel is not self-contained", std::string(kernel),
                fmt::format("its code calls {}", fmt::join(names, ", ")),
                "code generation must expand these operations itself");
}

Expected<int64_t> stackBytes(std::string_view object) {
  KF_TRY(auto file, open(object));
  std::optional<int64_t> total;
  for (const llvm::object::SectionRef &section : file->sections()) {
    auto name = section.getName();
    if (!name)
      return unreadable(name.takeError());
    if (*name != ".stack_sizes")
      continue;
    auto content = section.getContents();
    if (!content)
      return unreadable(content.takeError());
    // For each function its address and, as ULEB128, the size of its frame.
    for (size_t at = 0; at < content->size();) {
      at += sizeof(uint64_t);
      if (at >= content->size())
        return unreadable("section .stack_sizes ends within an address");
      unsigned length = 0;
      const char *error = nullptr;
      const uint64_t frame =
          llvm::decodeULEB128(content->bytes_begin() + at, &length, content->bytes_end(), &error);
      if (error)
        return unreadable(fmt::format("section .stack_sizes: {}", error));
      total = total.value_or(0) + static_cast<int64_t>(frame);
      at += length;
    }
  }
  if (!total)
    return unreadable("it has no section .stack_sizes, which says what its functions keep on the "
                      "stack");
  return *total;
}

} // namespace kernelforge
