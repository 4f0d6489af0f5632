#include "kernelforge/eval/Embedded.h"

namespace kernelforge {

std::string_view embeddedFile(std::string_view name) {
  for (const EmbeddedFile &file : embeddedFiles())
    if (file.name == name)
      return file.bytes;
  return {};
}

} // namespace kernelforge
