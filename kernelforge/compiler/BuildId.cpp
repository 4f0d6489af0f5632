#include "kernelforge/compiler/BuildId.h"

#include <cstring>
#include <elf.h>
#include <link.h>
#include <string_view>
#include <utility>
#include <vector>

#include "llvm/ADT/StringExtras.h"
#include "llvm/Config/llvm-config.h"

namespace kernelforge {

namespace {

/// The build id in a loaded segment of notes; empty where there is none.
std::string buildIdInNotes(const char *notes, size_t bytes) {
  auto aligned = [](size_t n) { return (n + 3) & ~size_t(3); };
  while (bytes >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes, sizeof(note));
    size_t name = sizeof(note), description = name + aligned(note.n_namesz);
    size_t end = description + aligned(note.n_descsz);
    if (end > bytes)
      break;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
        std::memcmp(notes + name, "GNU", 4) == 0)
      return llvm::toHex(llvm::StringRef(notes + description, note.n_descsz), /*LowerCase=*/true);
    notes += end;
    bytes -= end;
  }
  return "";
}

std::string buildIdOf(const dl_phdr_info &object) {
  for (int i = 0; i < object.dlpi_phnum; ++i) {
    const ElfW(Phdr) &segment = object.dlpi_phdr[i];
    if (segment.p_type != PT_NOTE)
      continue;
    auto *notes = reinterpret_cast<const char *>(object.dlpi_addr + segment.p_vaddr);
    if (std::string id = buildIdInNotes(notes, segment.p_memsz); !id.empty())
      return id;
  }
  return "";
}

/// Calls `visit(const dl_phdr_info &)` for each object loaded in this process until it says true.
template <typename Visit> void forEachLoadedObject(Visit visit) {
  dl_iterate_phdr([](dl_phdr_info *object, size_t,
                     void *data) -> int { return (*static_cast<Visit *>(data))(*object); },
                  &visit);
}

} // namespace

std::optional<std::string> buildId() {
  auto here = reinterpret_cast<ElfW(Addr)>(&buildIdInNotes);
  std::string id;
  forEachLoadedObject([&](const dl_phdr_info &object) {
    for (int i = 0; i < object.dlpi_phnum; ++i) {
      const ElfW(Phdr) &segment = object.dlpi_phdr[i];
      ElfW(Addr) begin = object.dlpi_addr + segment.p_vaddr;
      if (segment.p_type == PT_LOAD && here >= begin && here - begin < segment.p_memsz) {
        id = buildIdOf(object);
        return true;
      }
    }
    return false;
  });
  return id.empty() ? std::nullopt : std::optional(id);
}

std::string llvmBuild() {
  std::string text = LLVM_VERSION_STRING;
  for (std::string_view library : {"libLLVM", "libMLIR"})
    forEachLoadedObject([&](const dl_phdr_info &object) {
      std::string_view name = object.dlpi_name ? object.dlpi_name : "";
      name.remove_prefix(name.rfind('/') + 1); // npos + 1 is 0
      if (!name.starts_with(library))
        return false;
      text += " " + std::string(library) + ":" + buildIdOf(object);
      return true;
    });
  return text;
}

} // namespace kernelforge
